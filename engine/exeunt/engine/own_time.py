"""What a step costs beside its segments, measured at start-up by steps on blank samples."""

import time
from collections.abc import Mapping

from exeunt.engine.backends.base import Array
from exeunt.engine.errors import SegmentError
from exeunt.engine.exit_policy.compiled import CompiledPolicy
from exeunt.engine.lanes.plan import Plan
from exeunt.engine.lanes.request import Request
from exeunt.engine.lanes.residents import Residents
from exeunt.engine.lanes.slabs import Slabs
from exeunt.engine.pending import Pending
from exeunt.engine.scheduling.policy import PolicySettings
from exeunt.engine.scheduling.scheduler import Scheduler
from exeunt.engine.stats import EngineStats
from exeunt.engine.step.executor import Executor
from exeunt.engine.step.routing import Router
from exeunt.engine.step.runner import Runners
from exeunt.engine.worker import Worker

# Few rows, so that what each of them costs hardly counts; of a size that calibration has warmed.
REQUESTS = 4
PASSES = 2  # the first of them warms the code up


def own_step_s(
    plan: Plan,
    slabs: Slabs,
    runners: Runners,
    policy: CompiledPolicy,
    tensors: Mapping[str, Array],
    max_batch_rows: int,
) -> float:
    """Return the seconds of a step outside the backend: scheduling, copying, judging, routing.

    Without them a small model's batches would look worthwhile that cost more around their segment
    than in it.

    Args:
        plan: of the engine.
        slabs: with room for four requests, or fewer where a batch holds fewer.
        runners: of the one stream that steps.
        policy: that rows are judged by.
        tensors: one blank sample's raw tensors, without a sample axis.
        max_batch_rows: rows of a batch.

    Raises:
        SegmentError: a segment failed.
    """
    count = max(1, min(REQUESTS, max_batch_rows // plan.rows))
    stats = EngineStats()
    scheduler = Scheduler(max_batch_rows, PolicySettings())
    router = Router(slabs, Residents(count), stats)
    worker = Worker(scheduler, [Executor(runners, time.monotonic)], router, stats, _no_check)
    shapes = tuple(tensors[name].shape for name in plan.manifest.tensors)
    steps, own_s = 0, 0.0
    try:
        for _ in range(PASSES):
            steps, own_s = stats.step.steps, stats.step.own_s
            for task in plan.tasks.values():
                futures = [Pending() for _ in range(count)]
                for future in futures:
                    now_s = time.monotonic()
                    worker.submit(Request(task, dict(tensors), shapes, policy, future, now_s))
                for future in futures:
                    error = future.exception()
                    if isinstance(error, SegmentError):
                        raise error
    finally:
        worker.close()
    return (stats.step.own_s - own_s) / max(1, stats.step.steps - steps)


def _no_check() -> None:
    """Find nothing: a segment that fails ends the start-up."""
