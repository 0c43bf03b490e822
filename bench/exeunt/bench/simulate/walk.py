"""What the scheduler sees of a simulated engine: lanes, requests and units without tensors."""

from dataclasses import dataclass
from typing import ClassVar

from exeunt.bench.simulate.costs import CostFile
from exeunt.engine.lanes.request import Shapes


@dataclass(frozen=True, slots=True)
class SimulatedLane:
    """A lane. index: its place. waits_for, feeds: the lanes that it joins, and that join it.

    batch_s: seconds of a batch by stage: (constant, for each row), the engine's own time included.
    segments, layers: by stage.
    """

    index: int
    name: str
    unit_rows: int
    units: int
    depth: int
    first_layer: int
    waits_for: tuple[int, ...]
    feeds: tuple[int, ...]
    batch_s: tuple[tuple[float, float], ...]
    segments: tuple[str, ...]
    layers: tuple[int, ...]

    def last_stage(self, exit_layer: int) -> int:
        """Return the last stage that runs for a unit that leaves after a layer."""
        return self.first_layer + exit_layer - 1 if self.depth else len(self.batch_s) - 1


def simulated_lanes(costs: CostFile) -> tuple[SimulatedLane, ...]:
    """Return the lanes of a cost file, the answering one last."""
    places = {lane.name: index for index, lane in enumerate(costs.lanes)}
    own = costs.own
    return tuple(
        SimulatedLane(
            index,
            lane.name,
            lane.unit_rows,
            lane.units,
            lane.depth,
            lane.first_layer,
            tuple(places[name] for name in lane.join),
            costs.planned.followers[index],
            tuple((own.step_s + s.alpha_s, own.row_s + s.beta_s) for s in lane.stages),
            tuple(stage.segment for stage in lane.stages),
            tuple(stage.layer for stage in lane.stages),
        )
        for index, lane in enumerate(costs.lanes)
    )


@dataclass(slots=True, eq=False)
class SimulatedRequest:
    """One sample's walk; see `Request`. Nobody gives up, and there is nothing to let go.

    number: counts the requests. sample: its place. exits: the exit layer in each lane. left: units
    that are through, by lane.
    """

    number: int
    sample: int
    scheduled_s: float
    exits: tuple[int, ...]
    deadline_s: float | None
    left: list[int]

    abandoned: ClassVar[bool] = False

    def let_go(self) -> None:
        """Hold nothing, so give nothing up."""


@dataclass(slots=True, eq=False)
class SimulatedUnit:
    """A decision unit; see `Unit`. last_stage: the one after which it leaves the lane."""

    request: SimulatedRequest
    lane: SimulatedLane
    last_stage: int
    rows: int
    stage: int = 0
    waiting_s: float = 0.0

    batch_key: ClassVar[Shapes] = ()
