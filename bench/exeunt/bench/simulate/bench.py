"""`exeunt simulate`: from settings to a report."""

from collections.abc import Callable
from pathlib import Path

from exeunt.bench.report import Report
from exeunt.bench.simulate.against import compare_with_measurement
from exeunt.bench.simulate.costs import CostFile
from exeunt.bench.simulate.opening import open_measured
from exeunt.bench.simulate.report import comparison_report, simulation_report
from exeunt.bench.simulate.settings import Measurable, SimulationSettings
from exeunt.bench.simulate.simulate import Workload, simulate
from exeunt.bench.trace import write_trace
from exeunt.engine.trace import Trace

Progress = Callable[[str], None]


def measure_costs(
    what: Measurable,
    settings: SimulationSettings,
    seconds: float,
    progress: Progress | None = None,
) -> CostFile:
    """Open an engine and measure what its segments and steps cost.

    Args:
        what: the bundle, or the synthetic model.
        settings: whose engine is opened: costs are known up to its batches.
        seconds: of each closed loop that the engine serves meanwhile.
        progress: called with what comes next.

    Raises:
        ConfigError: the bundle cannot be simulated, or a setting does not fit.
    """
    with open_measured(what, settings.engine, progress) as opened:
        return opened.costs(seconds, progress)


def bench_simulation(
    costs: CostFile,
    settings: SimulationSettings,
    *,
    trace_file: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Simulate every repeat.

    Args:
        costs: of segments and steps.
        settings: load, engine and exits.
        trace_file: is given what the first repeat did; see `write_trace`.
        progress: called with what comes next.

    Raises:
        ConfigError: sizes, exits or arrivals do not fit, or the trace cannot be written.
    """
    workload = Workload(settings, costs)
    trace = Trace() if trace_file else None
    repeats = []
    for repeat in range(settings.load.repeats):
        if progress:
            progress(f"simulating: repeat {repeat + 1} of {settings.load.repeats}")
        repeats.append(simulate(costs, workload, repeat, None if repeat else trace))
    if trace_file and trace:
        write_trace(trace, trace_file)
    return simulation_report(costs, workload, repeats)


def bench_comparison(
    what: Measurable,
    settings: SimulationSettings,
    seconds: float,
    progress: Progress | None = None,
) -> tuple[Report, CostFile]:
    """Predict what an engine does and measure it; see `compare_with_measurement`.

    Returns:
        The report, and the costs of the last repeat.
    """
    with open_measured(what, settings.engine, progress) as opened:
        pairs = compare_with_measurement(opened, settings, calibrate_s=seconds, progress=progress)
    return comparison_report(pairs, settings), pairs[-1].costs
