"""The directory in which the bench keeps what is slow to make: each thing is made once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exeunt.engine.errors import ConfigError


def bench_cache(cache_dir: Path | None = None) -> Path:
    """Return `cache_dir`, by default `$XDG_CACHE_HOME/exeunt/bench` or `~/.cache/exeunt/bench`."""
    if cache_dir is not None:
        return cache_dir
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "exeunt" / "bench"


@contextmanager
def making(path: Path) -> Iterator[None]:
    """Hold the lock under which `path` is made, so that of two processes one waits for the other.

    Raises:
        ConfigError: the directory of `path` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"cannot write to the bench's cache {path.parent} ({error.strerror}): name another"
            " directory, or set XDG_CACHE_HOME"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, however that happens
        yield
