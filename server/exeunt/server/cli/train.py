"""`exeunt train`: recipes that train early-exit models."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:  # a recipe's part is loaded with its command
    from pydantic import BaseModel

app = typer.Typer(help="Train early-exit models.", no_args_is_help=True)

Scale = Annotated[float | None, typer.Option(min=0)]
Recipe = TypeVar("Recipe", bound="BaseModel")


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option(help="Directory of the checkpoint; holds the state too.")],
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew, even where a stopped run could go on.")
    ] = False,
    seed: Annotated[int | None, typer.Option()] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch.")] = None,
    layers: Annotated[int | None, typer.Option(min=1)] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads of a layer.")] = None,
    ffn: Annotated[int | None, typer.Option(min=1, help="Width of a layer's inner part.")] = None,
    half_depth: Annotated[
        bool, typer.Option("--half-depth", help="Half the layers, twice the steps.")
    ] = False,
    joint_steps: Annotated[int | None, typer.Option(min=1, help="Of joint cross-entropy.")] = None,
    msd_steps: Annotated[int | None, typer.Option(min=0, help="Of self-distillation.")] = None,
    lambda_joint: Scale = None,
    lambda_text: Scale = None,
    lambda_image: Scale = None,
    tau: Annotated[float | None, typer.Option(help="Temperature of the distillation.")] = None,
) -> None:
    """Train the embedded model: joint exits, then multimodality self-distillation.

    What is not given is as in the shipped checkpoint. Give it again to go on with a stopped run.

    [bold]Examples[/bold]

    exeunt train demo --out checkpoints/demo

    exeunt train demo --out checkpoints/half --half-depth

    exeunt train demo --out checkpoints/quick --joint-steps 500 --msd-steps 0
    """
    from exeunt.engine.errors import ConfigError
    from exeunt.train.demo.options import DemoRecipe
    from exeunt.train.demo.recipe import train_demo

    options = {
        "seed": seed,
        "threads": threads,
        "layers": layers,
        "heads": heads,
        "ffn": ffn,
        "joint_steps": joint_steps,
        "msd_steps": msd_steps,
        "lambda_joint": lambda_joint,
        "lambda_text": lambda_text,
        "lambda_image": lambda_image,
        "tau": tau,
    }
    recipe = _recipe(DemoRecipe, options)
    try:
        train_demo(out, recipe.half_depth() if half_depth else recipe, resume=not fresh)
    except ValueError as error:  # the directory holds a run with other options
        raise ConfigError(str(error)) from error


@app.command("scenes")
def scenes(
    out: Annotated[Path, typer.Option(help="Directory of the checkpoint; holds the state too.")],
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew, even where a stopped run could go on.")
    ] = False,
    seed: Annotated[int | None, typer.Option()] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch.")] = None,
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="Width of the model.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads of a layer.")] = None,
    ffn: Annotated[int | None, typer.Option(min=1, help="Width of a layer's inner part.")] = None,
    encoder_layers: Annotated[int | None, typer.Option(min=1, help="Of either lane.")] = None,
    decoder_layers: Annotated[int | None, typer.Option(min=1)] = None,
    num_scenes: Annotated[int | None, typer.Option(min=1, help="Of a step.")] = None,
    decomposition: Annotated[
        bool,
        typer.Option(
            "--decomposition/--no-decomposition",
            help="Image and text lanes, or one encoder over both (an ablation).",
        ),
    ] = True,
    layer_wise_loss: Annotated[
        bool,
        typer.Option(
            "--layer-wise-loss/--no-layer-wise-loss",
            help="Every decoder layer learns the task, or the last only (an ablation).",
        ),
    ] = True,
    exit_draw_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Rows that leave early in training."),
    ] = None,
    saturation_weight: Annotated[
        float | None, typer.Option(min=0, help="How strongly layers are to leave rows alone.")
    ] = None,
) -> None:
    """Train the two-task model: entailment and captions of scenes, as OFA with MuE.

    What is not given is as in the shipped checkpoint. Give it again to go on with a stopped run.

    [bold]Examples[/bold]

    exeunt train scenes --out checkpoints/scenes

    exeunt train scenes --out checkpoints/joint --no-decomposition

    exeunt train scenes --out checkpoints/last --no-layer-wise-loss

    exeunt train scenes --out checkpoints/quick --steps 200 --encoder-layers 2 --decoder-layers 2
    """
    from exeunt.engine.errors import ConfigError
    from exeunt.train.scenes.options import ScenesRecipe
    from exeunt.train.scenes.recipe import train_scenes

    options = {
        "seed": seed,
        "threads": threads,
        "steps": steps,
        "hidden": hidden,
        "heads": heads,
        "ffn": ffn,
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "num_scenes": num_scenes,
        "decomposition": decomposition,
        "layer_wise_loss": layer_wise_loss,
        "exit_draw_share": exit_draw_share,
        "saturation_weight": saturation_weight,
    }
    try:
        train_scenes(out, _recipe(ScenesRecipe, options), resume=not fresh)
    except ValueError as error:  # the directory holds a run with other options, or sizes do not fit
        raise ConfigError(str(error)) from error


def _recipe(kind: "type[Recipe]", options: Mapping[str, object]) -> Recipe:
    """Return a recipe with the options that were given."""
    from pydantic import ValidationError

    from exeunt.engine.errors import ConfigError

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{option}: {first['msg']}, found {first['input']}") from None
