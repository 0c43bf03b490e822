"""`exeunt bench exact`: answers under random schedules against one sample at a time."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    hidden: Annotated[int, typer.Option(help="The model's width.")] = 192,
    layers: Annotated[int, typer.Option(help="The model's depth.")] = 12,
    backend: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 under openvino.")] = "fp32",
    layout: Annotated[str, typer.Option(help="Of the batches: padded or packed.")] = "padded",
    lengths: Annotated[
        str, typer.Option(help="fixed (64 tokens), varying-text or varying.")
    ] = "varying-text",
    exits: Annotated[
        str, typer.Option(help="uniform, bimodal, last, rho:X, or recorded:FILE.")
    ] = "uniform",
    thresholds: Annotated[
        str,
        typer.Option(
            help="between: halfway between two samples' scores. on-score: on the score of a sample"
            " that must stay, so that the last bit decides."
        ),
    ] = "between",
    samples: Annotated[int, typer.Option(help="Served under every schedule.")] = 256,
    schedules: Annotated[int, typer.Option(help="Random ones.")] = 6,
    tolerance: Annotated[
        float,
        typer.Option(help="For logits, and around thresholds, between buckets and layouts."),
    ] = 1e-5,
    threads: Annotated[int, typer.Option(help="Compute threads; 0: one a core.")] = 0,
    streams: Annotated[int, typer.Option(help="Batches that run at once.")] = 1,
    seed: Annotated[int, typer.Option(help="Of samples and schedules.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write report.json and report.html here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare exit layers and logits under random schedules with those of one sample at a time.

    Every sample first walks the segments alone, padded to its own length bucket, and leaves by real
    entropy thresholds. Then the engine serves all of them again and again: in random order, with
    random pauses, batch sizes, waits and numbers of rows under way.

    Padded batches must give the same bits. Packed ones, and another bucket, must give logits within
    the tolerance, and the same exit layer wherever no score is that near to a threshold; packed
    batches must also give the bits of packed rows alone, where `deterministic: true` takes them.
    Exits with 1 when a promise is broken.

    [bold]Examples[/bold]

    exeunt bench exact

    exeunt bench exact --backend openvino --precision bf16 --thresholds on-score

    exeunt bench exact --layout packed --lengths varying --out runs/exact
    """
    from rich.console import Console

    from exeunt.bench.exactness import bench_exactness, exactness_settings
    from exeunt.bench.report import report_json, report_table, write_report
    from exeunt.bench.workloads import uniter_config

    settings = exactness_settings(
        {
            "workload": uniter_config(hidden=hidden, layers=layers),
            "exits": exits,
            "thresholds": thresholds,
            "lengths": lengths,
            "backend": backend,
            "precision": precision,
            "layout": layout,
            "threads": threads,
            "streams": streams,
            "samples": samples,
            "schedules": schedules,
            "tolerance": tolerance,
            "seed": seed,
        }
    )
    errors = Console(stderr=True)
    with errors.status("starting") as status:
        found = bench_exactness(settings, progress=status.update)
    if out is not None:
        for file in write_report(found.report, out):
            errors.print(f"wrote {file}", highlight=False, markup=False)
    if as_json:
        typer.echo(report_json(found.report), nl=False)
    else:
        Console().print(report_table(found.report))
    for said in found.broken:
        errors.print(f"broken promise, {said}", style="bold red", highlight=False, markup=False)
    if found.broken:
        raise typer.Exit(1)
