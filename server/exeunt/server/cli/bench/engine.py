"""`exeunt bench engine`: the engine at saturation, against its peers in the same run."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    workload: Annotated[
        str, typer.Option(help="The synthetic model: uniter-base.")
    ] = "uniter-base",
    exits: Annotated[
        str, typer.Option(help="uniform, bimodal, last, rho:X, or recorded:FILE.")
    ] = "uniform",
    backend: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 under openvino.")] = "fp32",
    hidden: Annotated[int, typer.Option(help="The model's width.")] = 768,
    layers: Annotated[int, typer.Option(help="The model's depth.")] = 12,
    lengths: Annotated[
        str, typer.Option(help="fixed (64 tokens), varying-text or varying.")
    ] = "fixed",
    threads: Annotated[int, typer.Option(help="Compute threads; 0: one a core.")] = 0,
    streams: Annotated[
        int,
        typer.Option(help="Batches that the engine runs at once, on threads / streams each."),
    ] = 1,
    batch_rows: Annotated[int, typer.Option(help="Rows of a batch at most.")] = 16,
    samples: Annotated[
        int, typer.Option(help="Counted in each pass; 0: a few seconds of them.")
    ] = 0,
    repeats: Annotated[int, typer.Option(help="Counted passes of everybody, in turns.")] = 9,
    peers: Annotated[
        str,
        typer.Option(
            help="none, all, or some of run-until-last, compact, consensus, batch-1,"
            " 'batch-1 processes', torch.compile, separated by commas."
        ),
    ] = "run-until-last,compact,consensus",
    seed: Annotated[int, typer.Option(help="Of samples and exits.")] = 0,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write the engine's last counted pass here, for ui.perfetto.dev."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write report.json, a PNG for each chart and report.html here."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure realised savings, phi and requests per second at saturation.

    Exits are drawn from a distribution and override the verdict alone: every head and the entropy
    criterion run and are paid for. The baseline is the same model as one graph, to full depth, in
    static batches of its best size; beside several streams also from as many callers at once.

    [bold]Examples[/bold]

    exeunt bench engine --exits bimodal --out runs/bimodal

    exeunt bench engine --exits last --peers none --json

    exeunt bench engine --streams 2 --trace runs/uniform.json

    exeunt bench engine --hidden 192 --exits rho:.5 --backend openvino --precision bf16
    """
    import json

    from rich.console import Console

    from exeunt.bench.report import write_report
    from exeunt.bench.saturation import (
        PEERS,
        bench_saturation,
        full_report,
        saturation_settings,
    )
    from exeunt.engine.errors import ConfigError

    if workload != "uniter-base":
        raise ConfigError(f"unknown workload {workload!r}: expected uniter-base")
    chosen = {"none": (), "all": PEERS}.get(peers, tuple(p.strip() for p in peers.split(",")))
    settings = saturation_settings(
        {
            "exits": exits,
            "backend": backend,
            "precision": precision,
            "hidden": hidden,
            "layers": layers,
            "lengths": lengths,
            "threads": threads,
            "streams": streams,
            "batch_rows": batch_rows,
            "samples": samples,
            "repeats": repeats,
            "peers": chosen,
            "seed": seed,
        }
    )
    errors = Console(stderr=True)
    with errors.status("starting") as status:
        report = bench_saturation(settings, trace=trace, progress=status.update)
    if out is not None:
        for file in write_report(full_report(report), out):
            errors.print(f"wrote {file}", highlight=False, markup=False)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        Console().print(report.as_table())
