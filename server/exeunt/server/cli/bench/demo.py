"""`exeunt bench demo`: the embedded model with and without exits."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle's directory; the embedded one without it.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples of each pass.")] = 2000,
    repeats: Annotated[int, typer.Option(min=1, help="Counted passes of each policy.")] = 5,
    threads: Annotated[int, typer.Option(help="Compute threads; 0: one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure requests per second with the bundle's exit policy and with `never`.

    Both run in one process on the same prepared samples, in turns; medians are printed.

    Examples:
        exeunt bench demo

        exeunt bench demo --samples 500 --repeats 9 --json
    """
    import json
    import random

    from rich.console import Console
    from rich.progress import Progress

    from exeunt.bench.data import load_data
    from exeunt.bench.demo import bench_demo
    from exeunt.engine import Engine

    everything = list(load_data("demo"))
    chosen = random.Random(0).sample(everything, min(samples, len(everything)))
    with (
        Engine.open(bundle, {"threads": threads}) as engine,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        task = bar.add_task("measuring", total=2 * (repeats + 1))
        report = bench_demo(engine, chosen, repeats=repeats, progress=lambda: bar.advance(task))
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        Console().print(report.as_table())
