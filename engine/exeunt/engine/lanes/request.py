"""A request: one sample on its way through the lanes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.decoding.options import NOTHING_ASKED, Asked
from exeunt.engine.exit_policy.compiled import CompiledPolicy, LanePolicy
from exeunt.engine.lanes.plan import LanePlan, TaskPlan
from exeunt.engine.pending import Pending

if TYPE_CHECKING:
    from exeunt.engine.decoding.decoding import Decoding, OnToken
    from exeunt.engine.lanes.unit import Unit

Array = NDArray[Any]
Shapes = tuple[tuple[int, ...], ...]


class LaneExit(NamedTuple):
    """Where and why one unit left a lane.

    layer: counts from 1; 0 in a lane without layers. criterion: what fired, or "depth". score,
    threshold: of the deciding rule; None under `never`. logits: float32 [C], where the lane has
    heads.
    """

    layer: int
    criterion: str
    fired: bool
    score: float | None
    threshold: float | None
    logits: NDArray[np.float32] | None


@dataclass(eq=False)
class Request:
    """One sample's walk; filled by the engine, resolved through `future`.

    tensors: raw inputs, without a sample axis. shape_key: their shapes; only units of equal shapes
    share a batch. submitted_s, started_s: on the engine's clock. finished: each lane's units that
    are through, by first row. units: all that have entered a lane. deadline_s: when the answer is
    wanted, on the engine's clock; None where no time was named. number: counts the requests of an
    engine. on_end: called once when the request is let go. ending: whether it has been told to.
    asked: how a loop lane's text is generated; decodings: the hypotheses, by the index of a loop
    lane that has been entered. on_token: is told each token. digests: of what its cached lanes
    read, by lane. from_cache: the lanes whose result another request had computed.
    """

    task: TaskPlan
    tensors: dict[str, Array]
    shape_key: Shapes
    policy: CompiledPolicy
    future: Pending
    submitted_s: float
    started_s: float | None = None
    finished: dict[str, list["Unit"]] = field(default_factory=dict)
    entered: set[str] = field(default_factory=set)
    units: list["Unit"] = field(default_factory=list)
    deadline_s: float | None = None
    number: int = 0
    on_end: Callable[[], None] | None = None
    ending: bool = False
    asked: Asked = NOTHING_ASKED
    decodings: dict[int, "Decoding"] = field(default_factory=dict)
    on_token: "OnToken | None" = None
    digests: dict[str, bytes] = field(default_factory=dict)
    from_cache: set[str] = field(default_factory=set)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.future.done()

    def let_go(self) -> None:
        """Give the units' slots back and drop the units.

        They know their request, and such a circle would keep the tensors of both in memory until
        the next garbage collection. A unit in a step keeps its slot, which the step writes to:
        whoever ends the step lets go again.
        """
        self.ending = True
        self.finished.clear()
        self.decodings.clear()
        stepping = []
        for unit in self.units:
            if unit.in_step:
                stepping.append(unit)
            else:
                unit.release()
        self.units = stepping
        if stepping:
            return
        ended, self.on_end = self.on_end, None
        if ended is not None:
            ended()

    def lane_policy(self, lane: LanePlan) -> LanePolicy:
        """Return the rules that this request was admitted under, for a lane."""
        return self.policy.lanes[self.task.spec.name, lane.name]

    def ready_lanes(self) -> list[LanePlan]:
        """Return the lanes whose joined lanes are through and that it has not entered yet."""
        return [
            lane
            for lane in self.task.lanes
            if lane.name not in self.entered
            and all(self._through(source) for source in lane.spec.join)
        ]

    def _through(self, lane: str) -> bool:
        units = self.finished.get(lane, [])
        return bool(units) and len(units) == units[0].lane.units
