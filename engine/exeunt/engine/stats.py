"""Counters and histograms of an engine: filled by its thread, read by any other.

Plain numbers, so that nothing on the step's path formats, locks or allocates for a metrics library.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from exeunt.engine.lanes.request import LaneExit

SECONDS_EDGES = tuple(15e-6 * 1.5**place for place in range(35))
ROWS_EDGES = tuple(float(2**place) for place in range(11))


@dataclass
class Histogram:
    """Counts by upper edge, the last bucket open. edges: ascending."""

    edges: Sequence[float]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        """Start every bucket at zero."""
        self.counts = [0] * (len(self.edges) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.total += value


@dataclass
class StepTimes:
    """Seconds that the engine's streams have spent, by part of a step, and the steps.

    schedule_s: choosing the batch. stack_s: copying raw inputs together before the first layer, as
    every server that batches does. gather_s: copying states together between layers. segment_s,
    head_s: in the backend. judge_s: scores and decisions. keep_s: copying the outputs back.
    route_s: moving rows on and answering.
    """

    steps: int = 0
    schedule_s: float = 0.0
    stack_s: float = 0.0
    gather_s: float = 0.0
    segment_s: float = 0.0
    head_s: float = 0.0
    judge_s: float = 0.0
    keep_s: float = 0.0
    route_s: float = 0.0

    @property
    def own_s(self) -> float:
        """Seconds that scheduling by layer costs: all but the backend and the raw inputs' copy."""
        return self.schedule_s + self.gather_s + self.judge_s + self.keep_s + self.route_s

    @property
    def total_s(self) -> float:
        """Seconds of all steps."""
        return self.own_s + self.stack_s + self.segment_s + self.head_s


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Seconds of one batch, by part; see `StepTimes`. is_entry: whether raw inputs were copied."""

    is_entry: bool
    gather_s: float
    segment_s: float
    head_s: float
    judge_s: float
    keep_s: float


class EngineStats:
    """What an engine has done since it was opened; filled by one thread at a time.

    exits: by lane, layer and criterion ("depth" where none fired), one for each unit or token.
    layers_run, layers_possible: by lane; rho is their ratio. segment_s: by segment, heads
    included. batch_rows: by lane. stage_rows: by lane and layer (0: before the first), the rows
    and the batches. step: where the time went.
    """

    def __init__(self) -> None:
        self.exits: Counter[tuple[str, int, str]] = Counter()
        self.layers_run: Counter[str] = Counter()
        self.layers_possible: Counter[str] = Counter()
        self.segment_s: dict[str, Histogram] = {}
        self.batch_rows: dict[str, Histogram] = {}
        self.stage_rows: dict[tuple[str, int], list[int]] = {}
        self.step = StepTimes()
        self.request_s = Histogram(SECONDS_EDGES)
        self.queue_s = Histogram(SECONDS_EDGES)
        self.requests: Counter[str] = Counter()

    def batch_done(self, segment: str, lane: str, layer: int, rows: int, times: BatchTimes) -> None:
        """Count one batch of `rows` rows through a segment, its head included."""
        spent = self.step
        spent.steps += 1
        if times.is_entry:
            spent.stack_s += times.gather_s
        else:
            spent.gather_s += times.gather_s
        spent.segment_s += times.segment_s
        spent.head_s += times.head_s
        spent.judge_s += times.judge_s
        spent.keep_s += times.keep_s
        seconds = times.segment_s + times.head_s + times.judge_s
        if segment not in self.segment_s:
            self.segment_s[segment] = Histogram(SECONDS_EDGES)
        self.segment_s[segment].observe(seconds)
        if lane not in self.batch_rows:
            self.batch_rows[lane] = Histogram(ROWS_EDGES)
        self.batch_rows[lane].observe(rows)
        counts = self.stage_rows.setdefault((lane, layer), [0, 0])
        counts[0] += rows
        counts[1] += 1

    def unit_left(self, lane: str, depth: int, found: LaneExit) -> None:
        """Count one unit, or one token of a loop, that left a lane of `depth` layers."""
        self.exits[lane, found.layer, found.criterion if found.fired else "depth"] += 1
        self.layers_run[lane] += found.layer
        self.layers_possible[lane] += depth

    def request_done(self, outcome: str, queue_s: float, total_s: float) -> None:
        """Count one request that ended: `answered`, or an error's type."""
        self.requests[outcome] += 1
        self.queue_s.observe(queue_s)
        self.request_s.observe(total_s)

    def rho(self) -> float | None:
        """Return layers run / layers possible over all lanes, None before the first row.

        Reference: UNITER-MSD, Eq. (19).
        """
        possible = sum(self.layers_possible.values())
        return sum(self.layers_run.values()) / possible if possible else None
