"""`exeunt serve`: the HTTP server."""

from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle's directory; the embedded model by default.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A YAML file; EXEUNT__SECTION__KEY wins over it."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. (127.0.0.1)")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0: a free one. (8000)")
    ] = None,
    exit_policy: Annotated[
        str | None, typer.Option(help="A YAML file with an exit policy, or `never`.")
    ] = None,
) -> None:
    """Serve a bundle over HTTP until SIGTERM or Ctrl-C; what was accepted is answered first.

    [bold]Examples[/bold]

    exeunt serve

    exeunt serve my-bundle --config exeunt.yaml --host 0.0.0.0

    EXEUNT__ENGINE__THREADS=4 exeunt serve

    curl -F image=@photo.png -F text='what shape is in the image?' 127.0.0.1:8000/predict
    """
    from exeunt.engine.exit_policy import load_exit_policy
    from exeunt.server.load_settings import load_settings
    from exeunt.server.process import run

    flags: dict[str, Any] = {"server": {}}
    if bundle is not None:
        flags["bundle"] = bundle
    if host is not None:
        flags["server"]["host"] = host
    if port is not None:
        flags["server"]["port"] = port
    if exit_policy is not None:
        flags["exit_policy"] = load_exit_policy(exit_policy)
    run(load_settings(config, flags))
