"""`exeunt export`: a checkpoint becomes a bundle."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from exeunt.export.bundle import ExportReport


class LayerPrecision(StrEnum):
    """What a bundle's layers compute in."""

    FP32 = "fp32"
    INT8 = "int8"


class LayerLayout(StrEnum):
    """How a batch's rows lie in the layers that a bundle has."""

    AUTO = "auto"
    PADDED = "padded"
    PACKED = "packed"
    BOTH = "both"


def command(
    source: Annotated[
        Path,
        typer.Argument(
            help="Checkpoint directory, or a model's name on Hugging Face's hub (org/name).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Where the bundle goes.", show_default=False)],
    family: Annotated[
        str | None, typer.Option(help="Model family; recognised from config.json by default.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="What the bundle answers; the task that the checkpoint's head fits."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="A tokenizer.json, or a directory with one; without it the bundle takes raw"
            " tensors only, unless the checkpoint has its own."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="The answers' names: a JSON list, or one a line, as in training."),
    ] = None,
    parity: Annotated[
        list[str] | None,
        typer.Option(help="An official quirk to keep, by name; may be given again."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The bundle's name; the family's own by default.")
    ] = None,
    exit_policy: Annotated[
        Path | None,
        typer.Option(
            help="Exit policy (YAML) that the bundle recommends; the checkpoint's own by default."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Largest absolute error allowed against torch.")
    ] = 1e-4,
    precision: Annotated[
        LayerPrecision,
        typer.Option(help="Of the layers. int8 is not batch-invariant, and the bundle says so."),
    ] = LayerPrecision.FP32,
    int8_tolerance: Annotated[
        float,
        typer.Option(
            help="Largest absolute error allowed of the logits, once the layers are int8."
        ),
    ] = 1.0,
    layout: Annotated[
        LayerLayout,
        typer.Option(
            help="Of the layers, where the family has packed ones: rows of one length, or tokens of"
            " rows of any length side by side. auto measures and keeps the quicker."
        ),
    ] = LayerLayout.AUTO,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle at OUT.")] = False,
) -> None:
    """Export a checkpoint as a bundle: one ONNX segment a layer, with its parity measured.

    The bundle appears at OUT only when every segment, and all of them chained, agree with torch.

    Examples:
        exeunt export my-checkpoint my-bundle

        exeunt export my-checkpoint my-bundle --exit-policy policy.yaml --overwrite

        exeunt export dandelin/vilt-b32-finetuned-vqa my-bundle

        exeunt export my-uniter my-bundle --tokenizer tokenizer.json --labels answers.json

        exeunt export my-checkpoint my-int8-bundle --precision int8
    """
    from exeunt.export.requirements import require_libraries

    require_libraries()
    from rich.console import Console
    from rich.progress import Progress

    from exeunt.export.bundle import export_bundle
    from exeunt.export.families.hf.hub import local_checkpoint
    from exeunt.export.families.options import SourceOptions

    checkpoint = local_checkpoint(source)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        shown = bar.add_task("start", total=None)

        def progress(step: str, done: int, steps: int) -> None:
            bar.update(shown, description=step, completed=done, total=steps)

        report = export_bundle(
            checkpoint,
            out,
            family=family,
            options=SourceOptions(task, labels, tokenizer, tuple(parity or ())),
            name=name,
            exit_policy=exit_policy,
            tolerance=tolerance,
            int8_tolerance=int8_tolerance if precision is LayerPrecision.INT8 else None,
            layout=layout.value,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(_summary(report))


def _summary(report: "ExportReport") -> str:
    composed, batch = report.parity.composed, report.parity.batch
    alone = "bit for bit" if batch.bit_exact else f"within {batch.max_abs_error:.2g}"
    said = (
        f"{report.out}: {len(report.manifest.segments)} segments,"
        f" {report.size_bytes / 2**20:.1f} MB; within {composed.max_abs_error:.2g} of the whole"
        f" model (tolerance {composed.tolerance:g}); a row in a batch equals the row alone {alone}"
    )
    return said if report.manifest.batch_invariant else f"{said}\n{_int8(report)}"


def _int8(report: "ExportReport") -> str:
    random, real = report.parity.random, report.parity.real
    same = f"{random.same_answers:.1%} of the heads' answers to {random.samples} random samples"
    if real:
        same += f" and {real.same_answers:.1%} of those to the {real.samples} examples"
    return f"int8 layers: NOT batch-invariant; {same} are the whole model's"
