"""The command line: `exeunt COMMAND`. Every part is imported only when its command runs."""

from exeunt.server.cli.app import main

__all__ = ["main"]
