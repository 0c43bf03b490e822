"""A batch whose layer has just run: what the rules may look at, computed when one of them asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.lanes.plan import LanePlan, Stage
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.step.frame import Frame, Slots
from exeunt.engine.step.runner import LaneRunner

Array = NDArray[Any]
Logits = NDArray[np.float32]


@dataclass(slots=True)
class Ran:
    """A batch of U units after one layer of a lane.

    place: the layer's stage. frame: holds the layer's inputs and outputs. head_s: seconds that
    heads have taken.
    """

    runner: LaneRunner
    place: int
    frame: Frame
    units: Sequence[Unit]
    slots: Slots
    clock: Callable[[], float]
    head_s: float = 0.0
    _heads: dict[str, Logits] = field(default_factory=dict)

    @property
    def lane(self) -> LanePlan:
        """The lane that the units walk."""
        return self.runner.lane

    @property
    def layer(self) -> int:
        """The layer that has just run, counting from 1."""
        return self.lane.stages[self.place].layer

    def logits(self, head: Stage) -> Logits:
        """Return a head's logits [U, C], run once; they are overwritten by the next batch."""
        found = self._heads.get(head.name)
        if found is None:
            started_s = self.clock()
            found = self.runner.head(head, self.place, self.frame, self.units, self.slots)
            self.head_s += self.clock() - started_s
            found = self._heads[head.name] = found.astype(np.float32, copy=False)
        return found

    def compared(self) -> tuple[NDArray[np.float32], NDArray[np.float32], Array | None]:
        """Return the lane's compared states before and after the layer, and their valid tokens.

        Two [U, T, D] and a bool [U, T] (None where every token is valid), T running over a unit's
        rows and over the compared states.
        """
        compare = self.lane.spec.compare
        old = [self._tokens(self.frame.inputs[state]) for state in compare]
        new = [self._tokens(self.frame.outputs[state]) for state in compare]
        valid = None
        if any(mask is not None for mask in compare.values()):
            masks = [
                np.ones(part.shape[:2], dtype=np.bool_) if mask is None else self._mask(mask)
                for part, mask in zip(old, compare.values(), strict=True)
            ]
            valid = np.concatenate(masks, axis=1)
        if len(old) == 1:
            return old[0], new[0], valid
        return np.concatenate(old, axis=1), np.concatenate(new, axis=1), valid

    def _tokens(self, state: Array) -> Array:
        return state.reshape(len(self.units), -1, state.shape[-1])

    def _mask(self, name: str) -> Array:
        read = self.frame.inputs.get(name)
        found = self.runner.slab.states[name][self.slots] if read is None else read
        valid: Array = found.reshape(len(self.units), -1) > 0
        return valid
