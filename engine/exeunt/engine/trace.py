"""The trace: what the engine ran, batch by batch, and why."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.scheduling.policy import Reason

MAX_BATCHES = 1_000_000  # a forgotten trace must not fill the memory


@dataclass(frozen=True, slots=True)
class TracedBatch:
    """One batch. started_s, ended_s: on the engine's clock. reason: of the scheduling policy.

    stream: that ran it. layer: 0 before the first. requests: their numbers, one for each unit, in
    the batch's order. left: those whose unit left the lane here, with the criterion ("depth" where
    none fired).
    """

    started_s: float
    ended_s: float
    lane: str
    segment: str
    layer: int
    reason: Reason
    requests: tuple[int, ...]
    left: tuple[tuple[int, str], ...]
    stream: int = 0


@dataclass
class Trace:
    """The batches since the trace was begun; `dropped` counts those beyond a million."""

    batches: list[TracedBatch] = field(default_factory=list)
    dropped: int = 0

    def add(
        self,
        started_s: float,
        ended_s: float,
        batch: Sequence[Unit],
        stage: int,
        reason: Reason,
        leaving: Sequence[tuple[Unit, LaneExit]],
        stream: int,
    ) -> None:
        """Record one batch of a stream, which stood at `stage` when it ran."""
        if len(self.batches) >= MAX_BATCHES:
            self.dropped += 1
            return
        lane = batch[0].lane
        self.batches.append(
            TracedBatch(
                started_s,
                ended_s,
                lane.name,
                lane.stages[stage].name,
                lane.stages[stage].layer,
                reason,
                tuple(unit.request.number for unit in batch),
                tuple(
                    (unit.request.number, found.criterion if found.fired else "depth")
                    for unit, found in leaving
                ),
                stream,
            )
        )
