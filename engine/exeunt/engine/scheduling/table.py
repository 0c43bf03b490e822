"""The table that the scheduler reads while it runs: worthwhile batches and remaining times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from exeunt.engine.scheduling.costs import Costs

DEFAULT_WORTHWHILE_ROWS = 3  # where nothing was measured: float32 on a CPU is flat from there on


@dataclass(frozen=True)
class StageTable:
    """What the policy needs to know of each stage, computed once at start-up.

    worthwhile_rows, remaining_s: by lane index and stage; a stage that is missing takes
    `default_rows` and has no predicted time, so that no deadline is urgent there.
    """

    worthwhile_rows: Mapping[tuple[int, int], int] = field(default_factory=dict)
    remaining_s: Mapping[tuple[int, int], float] = field(default_factory=dict)
    default_rows: int = DEFAULT_WORTHWHILE_ROWS

    def worthwhile(self, stage: tuple[int, int]) -> int:
        """Return the smallest worthwhile batch of a stage."""
        return self.worthwhile_rows.get(stage, self.default_rows)

    def latest_start_s(self, stage: tuple[int, int], deadline_s: float | None) -> float:
        """Return when a row must go on from a stage to answer by its deadline at full depth."""
        if deadline_s is None:
            return math.inf
        return deadline_s - self.remaining_s.get(stage, math.inf)


def stage_table(costs: Costs, max_rows: int, min_batch_rows: int | None) -> StageTable:
    """Lay the costs out for the scheduler.

    Args:
        costs: as measured.
        max_rows: of a batch.
        min_batch_rows: the smallest worthwhile batch of every stage, in place of the measured one.
    """
    worthwhile = {
        stage: min_batch_rows or cost.worthwhile_rows(max_rows)
        for stage, cost in costs.stages.items()
    }
    remaining = {
        (lane, stage): costs.remaining_s(lane, stage, worthwhile[lane, stage])
        for lane, stage in costs.stages
    }
    return StageTable(worthwhile, remaining, min_batch_rows or DEFAULT_WORTHWHILE_ROWS)
