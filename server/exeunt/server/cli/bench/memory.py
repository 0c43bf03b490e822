"""`exeunt bench memory`: what one session a segment takes, against one for the whole model."""

from typing import Annotated

import typer


def command(
    backend: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    hidden: Annotated[int, typer.Option(help="The model's width.")] = 768,
    layers: Annotated[int, typer.Option(help="The model's depth.")] = 12,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the batch.")] = 16,
    repeats: Annotated[int, typer.Option(min=1, help="Processes of each side.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the memory of one session a segment against one session for the whole model.

    Both sides hold the same heads and run the same batch, each in fresh processes.

    Examples:
        exeunt bench memory

        exeunt bench memory --backend openvino --hidden 192 --json
    """
    import json

    from rich.console import Console

    from exeunt.bench.memory import bench_memory
    from exeunt.bench.workloads import uniter_config

    config = uniter_config(hidden=hidden, layers=layers)
    with Console(stderr=True).status("starting") as status:
        report = bench_memory(
            config, backend=backend, rows=rows, repeats=repeats, progress=status.update
        )
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
        return
    for side, found in report.added_bytes.items():
        sizes = ", ".join(f"{size / 2**20:.0f}" for size in found)
        typer.echo(f"{side:9} {sizes} MiB")
    typer.echo(f"segments take {report.ratio:.2f}x of the whole graph's memory")
