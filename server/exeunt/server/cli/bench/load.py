"""`exeunt bench load`: throughput and latency under a load."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from exeunt.server.cli.bench import load_options as options

if TYPE_CHECKING:
    from rich.console import Console

    from exeunt.bench.load.opening import Opened
    from exeunt.bench.load.settings import LoadSettings
    from exeunt.bench.report import Report


def command(
    bundle: options.Bundle = None,
    data: options.Data = None,
    exits: options.Exits = None,
    hidden: options.Hidden = None,
    samples: options.Samples = None,
    loop: options.Loop = None,
    in_flight: options.InFlight = None,
    rate: options.Rate = None,
    shares: options.Shares = None,
    arrivals: options.Arrivals = None,
    burstiness: options.Burstiness = None,
    speed: options.Speed = None,
    over: options.Over = None,
    url: options.Url = None,
    slo_ms: options.SloMs = None,
    seconds: options.Seconds = None,
    repeats: options.Repeats = None,
    warm_up: options.WarmUp = None,
    policy: options.Policy = None,
    backend: options.Backend = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    out: options.Out = None,
    as_json: options.Json = False,
) -> None:
    """Measure throughput and latency under a load, with exits and to full depth in turns.

    An open loop's latency counts from the scheduled time. Medians over repeats are printed, with
    the least and the most; a run in which the load generator was the bottleneck is called so. A
    sweep's knee is the highest rate up to which 99 % of the requests are answered within the SLO,
    or else within 5 times the p99 of full depth at low load. Other settings of engine and server
    come from the environment, as for `exeunt serve`.

    [bold]Examples[/bold]

    exeunt bench load

    exeunt bench load my-bundle --in-flight 128 --over http --out runs/saturation

    exeunt bench load --rate 500 --slo-ms 50 --repeats 5

    exeunt bench load --rate sweep --arrivals gamma --burstiness 0.5 --out runs/sweep

    exeunt bench load --exits rho:.5 --rate sweep --shares .5,.7,.9 --seconds 30

    exeunt bench load --arrivals trace:requests.csv --over http --url http://127.0.0.1:8000
    """
    from rich.console import Console

    from exeunt.bench.load.opening import open_targets
    from exeunt.bench.load.settings import load_settings

    given = {
        "bundle": bundle,
        "data": data,
        "exits": exits,
        "hidden": hidden,
        "samples": samples,
        "loop": loop,
        "in_flight": in_flight,
        "rate": rate,
        "shares": shares.split(",") if shares else None,
        "arrivals": arrivals,
        "burstiness": burstiness,
        "speed": speed,
        "over": over,
        "url": url,
        "slo_ms": slo_ms,
        "seconds": seconds,
        "repeats": repeats,
        "warm_up": warm_up,
        "policy": policy,
        "backend": backend,
        "threads": threads,
        "seed": seed,
    }
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    errors = Console(stderr=True)
    with ExitStack() as stack:
        with errors.status("preparing"):
            opened = stack.enter_context(open_targets(settings))
        report = _measure(settings, opened, errors)
    _show(report, out, as_json, errors)


def _measure(settings: "LoadSettings", opened: "Opened", errors: "Console") -> "Report":
    from rich.progress import Progress

    from exeunt.bench.load.bench import bench_load, runs_of

    # No refreshing thread: it would take the interpreter from the load generator.
    with Progress(console=errors, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=runs_of(settings))
        started = -1

        def progress(what: str) -> None:
            nonlocal started
            started += 1
            bar.update(task, description=what, completed=started, refresh=True)

        return bench_load(settings, opened, progress)


def _show(report: "Report", out: "options.Out", as_json: bool, errors: "Console") -> None:
    from rich.console import Console

    from exeunt.bench.report import report_json, report_table, write_report

    if out is not None:
        for file in write_report(report, out):
            errors.print(f"wrote {file}", highlight=False, markup=False)
    if as_json:
        typer.echo(report_json(report), nl=False)
    else:
        Console().print(report_table(report))
