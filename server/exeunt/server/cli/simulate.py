"""`exeunt simulate`: what an engine would do under a load, without running it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from exeunt.server.cli import simulate_options as options

if TYPE_CHECKING:
    from exeunt.bench.report import Report
    from exeunt.bench.simulate import CostFile

SIMULATED_S, MEASURED_S = 60.0, 20.0


def command(
    bundle: options.Bundle = None,
    hidden: options.Hidden = None,
    task: options.Task = None,
    costs: options.Costs = None,
    save_costs: options.SaveCosts = None,
    measure_seconds: options.MeasureSeconds = 2.0,
    exits: options.Exits = "uniform",
    rate: options.Rate = None,
    in_flight: options.InFlight = None,
    arrivals: options.Arrivals = None,
    burstiness: options.Burstiness = None,
    speed: options.Speed = None,
    seconds: options.Seconds = None,
    warm_up: options.WarmUp = None,
    repeats: options.Repeats = None,
    seed: options.Seed = None,
    max_batch_rows: options.MaxBatchRows = None,
    min_batch_rows: options.MinBatchRows = None,
    max_wait_s: options.MaxWaitS = None,
    latency_target_s: options.LatencyTargetS = None,
    max_queued_rows: options.MaxQueuedRows = None,
    max_resident_rows: options.MaxResidentRows = None,
    backend: options.Backend = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    streams: options.Streams = None,
    against_measurement: options.Against = False,
    trace: options.Trace = None,
    as_json: options.Json = False,
) -> None:
    """Predict throughput, latency and batches under a load, from what segments cost.

    The engine's own scheduling runs in virtual time. Costs are measured on the bundle first, or
    read from a file, so that another load, batch size or policy is tried in seconds. Exits are
    drawn from a distribution. Other settings come from the environment, as for `exeunt serve`.

    [bold]Examples[/bold]

    exeunt simulate --hidden 768 --exits rho:.5 --rate 40 --save-costs costs.json

    exeunt simulate --costs costs.json --exits rho:.5 --rate 40 --max-batch-rows 8

    exeunt simulate --costs costs.json --in-flight 128 --trace run.json

    exeunt simulate --hidden 192 --rate 150 --against-measurement
    """
    load = _given(
        rate=rate,
        in_flight=in_flight,
        arrivals=arrivals,
        burstiness=burstiness,
        speed=speed,
        seconds=seconds,
        warm_up=warm_up,
        repeats=repeats,
        seed=seed,
    )
    if seconds is None and not (arrivals or "").startswith("trace:"):
        load["seconds"] = MEASURED_S if against_measurement else SIMULATED_S
    engine = _given(
        max_batch_rows=max_batch_rows,
        min_batch_rows=min_batch_rows,
        max_wait_s=max_wait_s,
        latency_target_s=latency_target_s,
        max_queued_rows=max_queued_rows,
        max_resident_rows=max_resident_rows,
        backend=backend,
        precision=precision,
        threads=threads,
        streams=streams,
    )
    request = _Request(
        bundle, hidden, task, costs, save_costs, measure_seconds, against_measurement, trace
    )
    _show(*_answer(request, load, engine, exits), save_costs, as_json)


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True)
class _Request:
    """What to do, apart from load and engine; the options' names."""

    bundle: Path | None
    hidden: int | None
    task: str | None
    costs: Path | None
    save_costs: Path | None
    measure_seconds: float
    against_measurement: bool
    trace: Path | None

    def contradiction(self) -> str | None:
        """Return what does not go together, None where everything does."""
        given = {
            "a bundle": self.bundle,
            "--hidden": self.hidden,
            "--task": self.task,
            "--save-costs": self.save_costs,
            "--against-measurement": self.against_measurement or None,
        }
        named = [name for name, value in given.items() if value is not None]
        if self.costs is not None and named:
            return f"--costs takes the place of measuring: leave {named[0]} out, or --costs"
        if self.trace is not None and self.against_measurement:
            return "--trace writes what is simulated alone: leave --against-measurement out"
        return None


def _answer(
    request: _Request, load: dict[str, object], engine: dict[str, object], exits: str
) -> "tuple[Report, CostFile]":
    from rich.console import Console

    from exeunt.bench.simulate import Measurable, read_costs, simulation_settings
    from exeunt.bench.simulate.bench import bench_comparison, bench_simulation, measure_costs
    from exeunt.engine.errors import ConfigError

    if wrong := request.contradiction():
        raise ConfigError(wrong)
    settings = simulation_settings(load, engine, exits)
    what = Measurable(request.bundle, request.hidden, request.task)
    with Console(stderr=True).status("starting") as status:
        if request.against_measurement:
            return bench_comparison(what, settings, request.measure_seconds, status.update)
        if request.costs is not None:
            costs = read_costs(request.costs)
        else:
            costs = measure_costs(what, settings, request.measure_seconds, status.update)
        report = bench_simulation(costs, settings, trace_file=request.trace, progress=status.update)
        return report, costs


def _show(report: "Report", costs: "CostFile", save_costs: Path | None, as_json: bool) -> None:
    from rich.console import Console

    from exeunt.bench.report import report_json, report_table
    from exeunt.bench.simulate import write_costs

    if save_costs is not None:
        write_costs(costs, save_costs)
    if as_json:
        typer.echo(report_json(report), nl=False)
    else:
        Console().print(report_table(report))
