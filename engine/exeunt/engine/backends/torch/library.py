"""The libraries of this backend, and their one thread pool."""

from importlib.util import find_spec
from threading import Lock

from exeunt.engine.errors import BackendUnavailable, ConfigError

LIBRARIES = ("torch", "onnx")

_lock = Lock()
_threads: int | None = None


def require_libraries() -> None:
    """Check that torch and onnx are installed.

    Raises:
        BackendUnavailable: names what is missing and the command that installs it.
    """
    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise BackendUnavailable(
            f"the torch backend needs {' and '.join(missing)}: run `pip install 'exeunt[export]'`"
        )


def share_threads(threads: int) -> None:
    """Give torch `threads` compute threads, or check that it was given as many before.

    Raises:
        ConfigError: the process has a pool of another size.
    """
    import torch

    global _threads
    with _lock:
        if _threads is None:
            torch.set_num_threads(threads)
            _threads = threads
        elif _threads != threads:
            raise ConfigError(
                f"this process already runs torch on {_threads} threads, and {threads} were asked"
                " for: open every engine with the same `threads`"
            )
