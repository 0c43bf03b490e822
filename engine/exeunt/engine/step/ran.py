"""A batch whose layer has just run: what the rules may look at, computed when one of them asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.lanes.plan import LanePlan, Stage
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.step.frame import Slots
from exeunt.engine.step.lane_runner import Batch, Compared, Runner

Logits = NDArray[np.float32]


@dataclass(slots=True)
class Ran:
    """A batch of U units after one stage of a lane. head_s: seconds that heads have taken."""

    runner: Runner
    batch: Batch
    clock: Callable[[], float]
    head_s: float = 0.0
    _heads: dict[str, Logits] = field(default_factory=dict)

    @property
    def lane(self) -> LanePlan:
        """The lane that the units walk."""
        return self.runner.lane

    @property
    def place(self) -> int:
        """The stage's place in the lane."""
        return self.batch.place

    @property
    def units(self) -> Sequence[Unit]:
        """The batch's units."""
        return self.batch.units

    @property
    def slots(self) -> Slots:
        """The units' slots."""
        return self.batch.slots

    @property
    def layer(self) -> int:
        """The layer that has just run, counting from 1."""
        return self.lane.stages[self.place].layer

    def logits(self, head: Stage) -> Logits:
        """Return a head's logits [U, C], run once; they are overwritten by the next batch."""
        found = self._heads.get(head.name)
        if found is None:
            started_s = self.clock()
            found = self.runner.head(head, self.batch)
            self.head_s += self.clock() - started_s
            found = self._heads[head.name] = found.astype(np.float32, copy=False)
        return found

    def compared(self) -> Compared:
        """Return the compared states before and after the layer; see `Runner.compared`."""
        return self.runner.compared(self.batch)
