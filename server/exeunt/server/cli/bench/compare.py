"""`exeunt bench compare`: what changed between two reports, and what is only noise."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="What is compared with.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="What is judged.")],
    fail_on_worse: Annotated[
        bool, typer.Option("--fail-on-worse", help="Exit with 1 when any figure is worse.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two reports figure by figure: better, worse, or within noise.

    A figure is better or worse when the ranges of its repeats do not overlap and its medians differ
    by more than 3 %; with fewer than 3 repeats on a side everything is within noise. Warns where
    machine, threads or workload differ.

    [bold]Examples[/bold]

    exeunt bench compare before/report.json after/report.json

    exeunt bench compare main.json branch.json --fail-on-worse
    """
    import json

    from rich.console import Console

    from exeunt.bench.report import compare, read_report

    comparison = compare(read_report(a), read_report(b))
    if as_json:
        typer.echo(json.dumps(comparison.as_json(), indent=2))
    else:
        Console().print(comparison.as_table())
    if fail_on_worse and comparison.is_worse:
        raise typer.Exit(1)
