"""`exeunt bench generation`: requests and tokens per second of a bundle that generates."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle's directory, or scenes, which is embedded.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="scenes, scenes-calibration, or a JSONL file as for eval.")
    ] = "scenes",
    exit_policy: Annotated[
        Path | None, typer.Option(help="A YAML file; the bundle's own without it.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Of each task; 0: all.")] = 512,
    repeats: Annotated[int, typer.Option(help="Counted passes of every side, in turns.")] = 5,
    threads: Annotated[int, typer.Option(help="Compute threads; 0: one a core.")] = 0,
    streams: Annotated[int, typer.Option(help="Batches that the engine runs at once.")] = 1,
    batch_rows: Annotated[int, typer.Option(help="Rows of the engine's batches at most.")] = 32,
    loop_rows: Annotated[int, typer.Option(help="Rows of the plain loop's batches.")] = 16,
    out: Annotated[
        Path | None, typer.Option(help="Write report.json, pictures and report.html here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure generation with exits against full depth, and against a plain loop.

    Full depth runs under the same scheduler. The plain loop is two ONNX graphs of the same weights
    and operators, without cuts, in static batches: decoding goes on until the last row has ended.

    Examples:
        exeunt bench generation scenes

        exeunt bench generation scenes --streams 2 --repeats 9 --json

        exeunt bench generation my-bundle --data my-test-set.jsonl --exit-policy thresholds.yaml
    """
    from rich.console import Console

    from exeunt.bench.generation import bench_generation
    from exeunt.bench.generation.settings import generation_bench
    from exeunt.bench.report import report_json, report_table, write_report
    from exeunt.engine import load_exit_policy

    settings = generation_bench(
        {
            "data": data,
            "samples": samples,
            "repeats": repeats,
            "threads": threads,
            "streams": streams,
            "batch_rows": batch_rows,
            "loop_rows": loop_rows,
        }
    )
    policy = load_exit_policy(str(exit_policy)) if exit_policy else None
    errors = Console(stderr=True)
    with errors.status("opening the bundle") as status:
        report = bench_generation(bundle, settings, policy, progress=status.update)
    if out is not None:
        for file in write_report(report, out):
            errors.print(f"wrote {file}", highlight=False, markup=False)
    if as_json:
        typer.echo(report_json(report))
    else:
        Console().print(report_table(report))
