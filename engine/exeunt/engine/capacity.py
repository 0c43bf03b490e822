"""Whether an engine's sizes fit together, and fit the machine."""

from exeunt.engine.config import EngineConfig, available_cores
from exeunt.engine.errors import ConfigError
from exeunt.engine.lanes.plan import Plan
from exeunt.engine.memory import available_bytes
from exeunt.engine.scheduling.scheduler import check_batch_rows


def check_threads(config: EngineConfig) -> None:
    """Check threads and streams against the machine and each other.

    Raises:
        ConfigError: names the setting and the number that would fit.
    """
    if config.threads > (cores := available_cores()):
        raise ConfigError(
            f"threads is {config.threads}, but this process may use {cores} cores, and more threads"
            f" would wait for each other: set threads to {cores}, or to 0 for one a core"
        )
    if config.compute_threads % config.streams:
        fitting = max(n for n in range(1, config.streams) if config.compute_threads % n == 0)
        raise ConfigError(
            f"streams is {config.streams}, and {config.compute_threads} compute threads cannot be"
            f" shared out evenly among them: set streams to {fitting}, or threads to a multiple of"
            f" {config.streams}"
        )


def check_sizes(config: EngineConfig, plan: Plan) -> None:
    """Check batches, queue and slab against each other and the bundle.

    Raises:
        ConfigError: names the setting and the number that would fit.
    """
    if wrong := check_batch_rows(config.max_batch_rows, plan.lanes):
        raise ConfigError(wrong)
    if plan.rows > config.max_queued_rows:
        raise ConfigError(
            f"max_queued_rows is {config.max_queued_rows}, but one sample has"
            f" {plan.rows} rows: raise it"
        )
    if config.max_batch_rows > config.max_queued_rows:
        raise ConfigError(
            f"max_queued_rows is {config.max_queued_rows}, smaller than a batch of"
            f" {config.max_batch_rows} rows, which would never fill: raise it to"
            f" {config.max_batch_rows} or lower max_batch_rows"
        )
    if config.max_resident_rows and config.max_resident_rows < config.max_batch_rows:
        raise ConfigError(
            f"max_resident_rows is {config.max_resident_rows}, smaller than a batch of"
            f" {config.max_batch_rows} rows, which would never fill: raise it to"
            f" {config.max_batch_rows} at least"
        )


def check_memory(slot_bytes: int, resident: int, rows: int) -> None:
    """Check that the slab fits into the memory that is free.

    Args:
        slot_bytes: of one request's states at the largest shapes known.
        resident: requests under way at most.
        rows: of one request.

    Raises:
        ConfigError: names the number of rows that would fit.
    """
    free = available_bytes()
    wanted = slot_bytes * resident
    if free is None or wanted <= free:
        return
    fitting = free // slot_bytes * rows
    raise ConfigError(
        f"the states of {resident * rows} rows under way take {wanted / 2**20:.0f} MiB, and"
        f" {free / 2**20:.0f} MiB are free: lower max_resident_rows to {fitting}"
    )
