"""Counting the batches of a simulation inside its measured window."""

from dataclasses import dataclass, field

from exeunt.bench.simulate.walk import SimulatedLane
from exeunt.engine.scheduling.policy import Reason


@dataclass(slots=True)
class Count:
    """Batches, their rows, and the seconds of them that lie inside the window."""

    batches: int = 0
    rows: int = 0
    seconds: float = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """Count one batch."""
        self.batches += 1
        self.rows += rows
        self.seconds += seconds

    @property
    def fill(self) -> float:
        """Rows of a batch on average."""
        return self.rows / self.batches if self.batches else 0.0


@dataclass
class BatchLog:
    """What ran from `start_s` to `end_s`: by lane and stage, and by the policy's reason.

    streams: that could run batches at once.
    """

    start_s: float
    end_s: float
    streams: int = 1
    stages: dict[tuple[int, int], Count] = field(default_factory=dict)
    reasons: dict[Reason, Count] = field(default_factory=dict)

    def add(
        self,
        lane: SimulatedLane,
        stage: int,
        rows: int,
        started_s: float,
        ended_s: float,
        reason: Reason,
    ) -> None:
        """Count a batch of which some part lies inside the window."""
        inside_s = min(ended_s, self.end_s) - max(started_s, self.start_s)
        if inside_s < 0 or started_s >= self.end_s:
            return
        self.stages.setdefault((lane.index, stage), Count()).add(rows, inside_s)
        self.reasons.setdefault(reason, Count()).add(rows, inside_s)

    @property
    def utilisation(self) -> float:
        """Share of the window in which a stream ran a batch."""
        busy_s = sum(count.seconds for count in self.reasons.values())
        return busy_s / (self.streams * (self.end_s - self.start_s))
