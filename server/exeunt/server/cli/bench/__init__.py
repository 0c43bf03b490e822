"""`exeunt bench`: measurements that anyone can repeat."""

from importlib import import_module

import typer

app = typer.Typer(
    help="Measure throughput and latency, and compare what was measured.", no_args_is_help=True
)


def _register() -> None:
    for name in ("demo", "engine", "exact", "generation", "http", "load", "memory", "compare"):
        app.command(name)(import_module(f"exeunt.server.cli.bench.{name}").command)


_register()
