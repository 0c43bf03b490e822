"""One simulated run, measured as a real one is."""

from dataclasses import dataclass

import numpy as np

from exeunt.bench.load import Measurement, Run, Schedule, measure
from exeunt.bench.load.settings import Arrivals
from exeunt.bench.simulate.arrivals import ClosedSource, OpenSource, Source
from exeunt.bench.simulate.batches import BatchLog
from exeunt.bench.simulate.costs import CostFile
from exeunt.bench.simulate.settings import (
    SAMPLES,
    SimulationSettings,
    check_fit,
    drawn_exits,
    sample_order,
)
from exeunt.bench.simulate.simulator import Simulator
from exeunt.engine.trace import Trace

LABELS = (None,) * SAMPLES  # nobody knows the right answers


@dataclass(frozen=True)
class Simulated:
    """What a simulated run saw. log: the batches of the measured window."""

    measurement: Measurement
    log: BatchLog


class Workload:
    """Arrivals and exits of each repeat: the same for the simulator and for an engine.

    Args:
        settings: of the simulation.
        costs: of the bundle.

    Raises:
        ConfigError: sizes, exits or the arrivals' file do not fit.
    """

    def __init__(self, settings: SimulationSettings, costs: CostFile) -> None:
        check_fit(settings, costs)
        self.settings = settings
        self._exits = drawn_exits(settings, costs)
        self._arrivals = Arrivals(settings.load) if settings.load.is_open else None

    @property
    def seconds(self) -> float:
        """The measured window of each run."""
        return self._arrivals.seconds if self._arrivals else self.settings.load.window_s

    @property
    def end_s(self) -> float:
        """When the window closes, from a run's start."""
        return self.settings.load.warm_up + self.seconds

    def exits(self, repeat: int) -> list[tuple[int, ...]]:
        """Return the exit layers, by lane, of the samples in the order of a repeat."""
        return [self._exits[place] for place in sample_order(self.settings, repeat)]

    def schedule(self, repeat: int) -> Schedule | None:
        """Return when requests come, and of which sample; None in a closed loop."""
        if self._arrivals is None:
            return None
        rate = self.settings.load.rate
        found = self._arrivals.schedule(rate if isinstance(rate, float) else None, repeat)
        samples = np.arange(len(found)) if found.samples is None else found.samples
        return Schedule(found.times_s, samples % SAMPLES)

    def measured(self, run: Run) -> Measurement:
        """Return a run's figures; goodput counts up to the engine's latency target."""
        target_s = self.settings.engine.latency_target_s
        return measure(run, LABELS, None if target_s is None else target_s * 1e3)


def simulate(
    costs: CostFile, workload: Workload, repeat: int = 0, trace: Trace | None = None
) -> Simulated:
    """Return what an engine of these costs would do.

    Args:
        costs: of segments and steps.
        workload: arrivals, exits and settings.
        repeat: which draw of arrivals and of the samples' order.
        trace: is filled as an engine fills its own.
    """
    load, exits = workload.settings.load, workload.exits(repeat)
    log = BatchLog(load.warm_up, workload.end_s, workload.settings.engine.streams)
    simulator = Simulator(
        costs,
        workload.settings.engine,
        _source(workload, repeat),
        lambda sample: exits[sample],
        log,
        load.seed + repeat,
        trace,
    )
    outcomes = tuple(simulator.run())
    run = Run(outcomes, load.warm_up, workload.seconds, load.is_open, generator_share=0.0)
    return Simulated(workload.measured(run), log)


def _source(workload: Workload, repeat: int) -> Source:
    schedule = workload.schedule(repeat)
    if schedule is None:
        return ClosedSource(workload.settings.load.in_flight, workload.end_s, SAMPLES)
    assert schedule.samples is not None, "a workload names every request's sample"
    return OpenSource(schedule.times_s.tolist(), schedule.samples.tolist())
