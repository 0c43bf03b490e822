"""`exeunt train`: recipes that train early-exit models."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Train early-exit models.", no_args_is_help=True)

Scale = Annotated[float | None, typer.Option(min=0)]


@app.callback()
def _group() -> None:
    """Keep `demo` a command of a group: other recipes will stand beside it."""


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
    from pydantic import ValidationError

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
    given = {name: value for name, value in options.items() if value is not None}
    try:
        recipe = DemoRecipe.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{option}: {first['msg']}, found {first['input']}") from None
    try:
        train_demo(out, recipe.half_depth() if half_depth else recipe, resume=not fresh)
    except ValueError as error:  # the directory holds a run with other options
        raise ConfigError(str(error)) from error
