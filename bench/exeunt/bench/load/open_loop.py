"""The open loop: requests are sent at scheduled times, whatever happens to the earlier ones."""

import time
from collections.abc import Iterator

from exeunt.bench.load.arrivals import Schedule
from exeunt.bench.load.collecting import Collector, no_garbage_collection
from exeunt.bench.load.outcome import Run, Target

LEAD_S = 0.02  # from the start of the clock to the first scheduled time


def open_loop(
    target: Target,
    schedule: Schedule,
    samples: Iterator[int],
    *,
    warm_up_s: float,
    seconds: float,
) -> Run:
    """Send every request of the schedule at its time: the load of clients that do not wait.

    Latency counts from the scheduled time. A generator that counted from when it got round to
    sending would leave out the very waiting that a slow target causes.

    Args:
        target: what is put under load.
        schedule: when; requests in the first `warm_up_s` are not measured.
        samples: places of samples, without end, where the schedule names none.
        warm_up_s: seconds before the measured window.
        seconds: the measured window.
    """
    places = samples if schedule.samples is None else iter(schedule.samples.tolist())
    times_s = schedule.times_s.tolist()
    with no_garbage_collection():
        start_s = time.perf_counter() + LEAD_S
        cpu_s = target.generator_cpu_s()
        collector = Collector(target, start_s)
        for due_s, sample in zip(times_s, places, strict=False):
            wait_s = start_s + due_s - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            collector.send(sample, due_s)
        taken_s = time.perf_counter() - start_s
        cpu_s = target.generator_cpu_s() - cpu_s
        collector.drain()
    return Run(
        collector.outcomes(), warm_up_s, seconds, open_loop=True, generator_share=cpu_s / taken_s
    )
