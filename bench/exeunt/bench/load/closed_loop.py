"""The closed loop: a fixed number of requests in flight, each end sends the next."""

import time
from collections.abc import Iterator

from exeunt.bench.load.collecting import Collector, no_garbage_collection
from exeunt.bench.load.outcome import Run, Target

MAX_ERRORS_IN_A_ROW = 1000


def closed_loop(
    target: Target, samples: Iterator[int], *, in_flight: int, warm_up_s: float, seconds: float
) -> Run:
    """Keep `in_flight` requests under way: the load of as many clients that never think.

    With enough of them the target is saturated; latencies then say how long the queue is, not how
    fast the target answers.

    Args:
        target: what is put under load.
        samples: places of samples, without end.
        in_flight: requests under way, at least 1.
        warm_up_s: seconds before the measured window.
        seconds: the measured window.
    """
    with no_garbage_collection():
        start_s = time.perf_counter()
        cpu_s = target.generator_cpu_s()
        collector = Collector(target, start_s)
        gave_up = _keep_in_flight(
            collector, samples, in_flight, until_s=start_s + warm_up_s + seconds
        )
        taken_s = time.perf_counter() - start_s
        cpu_s = target.generator_cpu_s() - cpu_s
        collector.drain()
    return Run(
        collector.outcomes(),
        warm_up_s,
        seconds,
        open_loop=False,
        generator_share=cpu_s / taken_s,
        gave_up=gave_up,
    )


def _keep_in_flight(
    collector: Collector, samples: Iterator[int], in_flight: int, until_s: float
) -> str | None:
    """Send until the time has come; return why it ended earlier, if it did."""
    for _ in range(in_flight):
        collector.send(next(samples))
    errors = 0
    while True:
        reply = collector.take(until_s - time.perf_counter())
        if reply is None or time.perf_counter() >= until_s:
            return None
        errors = errors + 1 if reply.error else 0
        if errors >= MAX_ERRORS_IN_A_ROW:
            return f"{errors} requests in a row failed, the last with {reply.error}"
        collector.send(next(samples))
