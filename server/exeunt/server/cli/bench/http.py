"""`exeunt bench http`: our server beside LitServe, BentoML and Ray Serve."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    exits: Annotated[
        str, typer.Option(help="uniform, bimodal, last, rho:X, or recorded:FILE.")
    ] = "rho:.5",
    hidden: Annotated[int, typer.Option(help="The model's width.")] = 768,
    layers: Annotated[int, typer.Option(help="The model's depth.")] = 12,
    peers: Annotated[
        str,
        typer.Option(
            help="all, none, or some of litserve, litserve-best, bentoml, ray, separated by commas."
            " Each framework is installed into an environment of its own at its first use."
        ),
    ] = "all",
    backend: Annotated[
        str, typer.Option(help="Of our server and of litserve-best: auto, onnxruntime, openvino.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    in_flight: Annotated[
        str, typer.Option(help="Requests under way to try; each server is measured at its best.")
    ] = "32,64",
    search: Annotated[
        bool, typer.Option(help="Search batch sizes and time-outs, ours and the peers'.")
    ] = True,
    batch_rows: Annotated[int, typer.Option(help="Rows of a batch, without a search.")] = 16,
    streams: Annotated[
        int, typer.Option(help="Batches that our server runs at once, without a search.")
    ] = 1,
    requests: Annotated[int, typer.Option(help="Different ones, which are sent in turns.")] = 256,
    repeats: Annotated[int, typer.Option(help="Counted runs of every server, in turns.")] = 3,
    seconds: Annotated[float, typer.Option(help="The measured window of each run.")] = 15.0,
    warm_up: Annotated[float, typer.Option(help="Seconds of each run before its window.")] = 3.0,
    threads: Annotated[int, typer.Option(help="Of every model; 0: one a core.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the requests.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write report.json and report.html here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure requests per second over HTTP, beside other servers of the same model.

    The model takes an image and a text of 8 to 28 words. Exits come from entropy thresholds that
    are set on the model's own scores until the wanted share leaves at each layer. One server is
    under load at a time, the others are frozen.

    [bold]Examples[/bold]

    exeunt bench http

    exeunt bench http --hidden 192 --peers litserve,litserve-best --out runs/http

    exeunt bench http --peers none --no-search --json
    """
    from rich.console import Console

    from exeunt.bench.http_peers import PEERS, bench_http, http_settings
    from exeunt.bench.report import report_json, report_table, write_report

    chosen = {"none": (), "all": PEERS}.get(peers, tuple(p.strip() for p in peers.split(",")))
    settings = http_settings(
        {
            "exits": exits,
            "hidden": hidden,
            "layers": layers,
            "peers": chosen,
            "backend": backend,
            "precision": precision,
            "in_flight": _numbers(in_flight),
            "search": search,
            "batch_rows": batch_rows,
            "streams": streams,
            "requests": requests,
            "repeats": repeats,
            "seconds": seconds,
            "warm_up_s": warm_up,
            "threads": threads,
            "seed": seed,
        }
    )
    errors = Console(stderr=True)
    # Plain lines: a moving one would take the CPU from what is measured.
    report = bench_http(settings, progress=lambda step: errors.print(step, style="dim"))
    if out is not None:
        for file in write_report(report, out):
            errors.print(f"wrote {file}", highlight=False, markup=False)
    if as_json:
        typer.echo(report_json(report), nl=False)
    else:
        Console().print(report_table(report))


def _numbers(text: str) -> tuple[object, ...]:
    """Return the numbers of a list with commas; what is none stays as it is, to be refused."""
    parts = [part.strip() for part in text.split(",")]
    return tuple(int(part) if part.isdigit() else part for part in parts)
