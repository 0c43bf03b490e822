"""`exeunt predict`: one answer without a server, and what every layer would have said."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from exeunt.engine import Engine


def command(
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="An image file; repeat it for several.")
    ] = None,
    regions: Annotated[
        list[Path] | None,
        typer.Option(
            "--regions",
            metavar="FILE.npz",
            help="What a detector saw, in place of the image; repeat it for several images.",
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="The question or statement.")] = None,
    task: Annotated[str | None, typer.Option(help="Which, where a bundle has several.")] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="A bundle's directory, or demo or scenes, which are embedded."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file, as for `serve`.")] = None,
    exit_policy: Annotated[
        str | None, typer.Option(help="A YAML file with an exit policy, or `never`.")
    ] = None,
    beams: Annotated[int | None, typer.Option(help="Hypotheses of a generated text.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of a generated text, at most.")] = None,
    no_repeat_ngram: Annotated[
        int | None, typer.Option(help="No so many tokens in a row appear twice in a text.")
    ] = None,
    allowed: Annotated[
        list[str] | None, typer.Option(help="An answer to choose from; repeat it for each.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what /predict would answer.")
    ] = False,
) -> None:
    """Answer one sample without a server, with a table of every layer's answer and score.

    [bold]Examples[/bold]

    exeunt predict --image photo.png --text 'what shape is in the image?'

    exeunt predict --image photo.png --text 'there is a cat' --exit-policy never --json

    exeunt predict --bundle my-uniter --regions photo.npz --text 'what is on the table?'

    exeunt predict --bundle scenes --image scene.png --task caption --beams 3
    """
    from exeunt.engine import Engine
    from exeunt.engine.exit_policy import load_exit_policy
    from exeunt.server.answers import AnswerBody
    from exeunt.server.load_settings import load_settings

    flags: dict[str, Any] = {}
    if bundle is not None:
        flags["bundle"] = bundle
    if exit_policy is not None:
        flags["exit_policy"] = load_exit_policy(exit_policy)
    settings = load_settings(config, flags)
    with Engine.open(settings.bundle, settings.engine_config()) as engine:
        generation = {
            "beams": beams,
            "max_tokens": max_tokens,
            "no_repeat_ngram": no_repeat_ngram,
            "allowed": allowed or None,
        }
        fields: dict[str, object] = {"text": text, "task": task, **generation}
        sample = _sample(engine, image or [], regions or [], fields)
        answer = engine.predict(sample)
        invariant = engine.manifest.batch_invariant
        if as_json:
            typer.echo(AnswerBody.of(answer, batch_invariant=invariant).to_json())
            return
        from rich.console import Console

        from exeunt.server.cli.predict_table import layer_tables, summary

        console = Console()
        for table in layer_tables(engine, sample, answer):
            console.print(table)
        console.print(summary(answer))
        if not invariant:
            console.print("int8 layers, NOT batch-invariant: batch mates can change the answer")


def _sample(
    engine: "Engine", images: list[Path], regions: list[Path], fields: dict[str, object]
) -> dict[str, object]:
    """Return what the engine takes: the contents of files, and the fields that were named."""
    from exeunt.engine.errors import InputError

    spec = engine.manifest.inputs.image
    contents = [_content(path, "image") for path in images]
    sample = dict(fields)
    if spec is not None and spec.count > 1:
        sample["images"] = contents
    elif len(contents) > 1:
        raise InputError(f"this model takes one image, found {len(contents)}: give --image once")
    elif contents:
        sample["image"] = contents[0]
    seen = [_content(path, "regions") for path in regions]
    if seen:
        sample["regions"] = seen if len(seen) > 1 else seen[0]
    return {name: value for name, value in sample.items() if value is not None}


def _content(path: Path, what: str) -> bytes:
    from exeunt.engine.errors import InputError

    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}") from None
