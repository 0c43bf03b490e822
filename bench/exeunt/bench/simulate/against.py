"""Predictions beside measurements: the simulator and the engine under the same load."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle

from exeunt.bench.load import Measurement, closed_loop, open_loop
from exeunt.bench.simulate.calibrate import SECONDS
from exeunt.bench.simulate.costs import CostFile, halfway
from exeunt.bench.simulate.opening import Measured
from exeunt.bench.simulate.settings import SAMPLES, SimulationSettings
from exeunt.bench.simulate.simulate import Simulated, Workload, simulate
from exeunt.engine.trace import TracedBatch

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Pair:
    """One repeat. batch_units: units of a measured batch on average, over its whole run."""

    costs: CostFile
    predicted: Simulated
    measured: Measurement
    batch_units: float


def compare_with_measurement(
    opened: Measured,
    settings: SimulationSettings,
    *,
    calibrate_s: float = SECONDS,
    progress: Progress | None = None,
) -> list[Pair]:
    """Measure the engine and predict what was measured, repeat by repeat.

    Costs are measured on the same engine before and after each run, which serves the schedule and
    the exits that the simulator serves. The prediction sees nothing of the run.

    Args:
        opened: an engine with samples of one shape, on a bundle whose exits can be drawn.
        settings: load, engine and exits.
        calibrate_s: of each closed loop in which costs are measured.
        progress: called with what comes next.

    Raises:
        ConfigError: sizes, exits or arrivals do not fit, or the exits cannot be drawn.
    """
    tell = progress or (lambda _: None)
    pairs = []
    before = opened.costs(calibrate_s, tell)
    workload = Workload(settings, before)
    for repeat in range(settings.load.repeats):
        tell(f"measuring: repeat {repeat + 1} of {settings.load.repeats}")
        trace = opened.engine.start_trace()
        measured = _measure(opened, workload, repeat)
        opened.engine.stop_trace()
        after = opened.costs(calibrate_s, tell)
        costs, before = halfway(before, after), after
        predicted = simulate(costs, workload, repeat)
        pairs.append(Pair(costs, predicted, measured, _batch_units(trace.batches)))
    return pairs


def _measure(opened: Measured, workload: Workload, repeat: int) -> Measurement:
    target = opened.drawn([exits[-1] for exits in workload.exits(repeat)])
    load, schedule = workload.settings.load, workload.schedule(repeat)
    samples = cycle(range(SAMPLES))
    if schedule is None:
        run = closed_loop(
            target,
            samples,
            in_flight=load.in_flight,
            warm_up_s=load.warm_up,
            seconds=workload.seconds,
        )
    else:
        run = open_loop(target, schedule, samples, warm_up_s=load.warm_up, seconds=workload.seconds)
    return workload.measured(run)


def _batch_units(batches: Iterable[TracedBatch]) -> float:
    sizes = [len(batch.requests) for batch in batches]
    return sum(sizes) / len(sizes) if sizes else 0.0
