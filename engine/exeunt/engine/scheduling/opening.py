"""Making the scheduler of an engine from its configuration and its measured costs."""

from collections.abc import Iterable

from exeunt.engine.config import EngineConfig
from exeunt.engine.scheduling.costs import Costs
from exeunt.engine.scheduling.policy import PolicySettings
from exeunt.engine.scheduling.scheduler import Scheduler
from exeunt.engine.scheduling.table import DEFAULT_WORTHWHILE_ROWS, StageTable, stage_table
from exeunt.engine.scheduling.waiting import Indexed

DEFAULT_MAX_WAIT_S = 1.0  # where nothing was measured
LEAST_MAX_WAIT_S = 0.05


def open_scheduler(
    config: EngineConfig, costs: Costs | None, lanes: Iterable[Indexed], resident_rows: int
) -> Scheduler:
    """Return a scheduler without anything that waits; see `plan_scheduling`."""
    settings, table = plan_scheduling(config, costs, lanes, resident_rows)
    return Scheduler(config.max_batch_rows, settings, table)


def plan_scheduling(
    config: EngineConfig, costs: Costs | None, lanes: Iterable[Indexed], resident_rows: int
) -> tuple[PolicySettings, StageTable]:
    """Return what a scheduler chooses by.

    Args:
        config: sets what is not to be measured.
        costs: as measured at start-up; None where they are not known.
        lanes: all lanes of the bundle.
        resident_rows: rows under way at most; a row that waits twice as long as they all need at
            full depth counts as starving.
    """
    rows = config.max_batch_rows
    if costs is None:
        table = StageTable(default_rows=config.min_batch_rows or DEFAULT_WORTHWHILE_ROWS)
        return PolicySettings(config.max_wait_s or DEFAULT_MAX_WAIT_S), table
    longest_s = max(costs.remaining_s(lane.index, 0, rows) for lane in lanes)
    all_s = resident_rows / rows * longest_s
    max_wait_s = config.max_wait_s or max(LEAST_MAX_WAIT_S, 2 * all_s)
    settings = PolicySettings(max_wait_s, costs.longest_s(rows))
    return settings, stage_table(costs, rows, config.min_batch_rows)
