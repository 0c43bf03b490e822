"""The backends by name; each one's library is imported only when it is asked for."""

from collections.abc import Callable

from exeunt.engine.backends.base import Backend
from exeunt.engine.errors import ConfigError


def _onnxruntime(threads: int) -> Backend:
    from exeunt.engine.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(threads)


def _torch(threads: int) -> Backend:
    from exeunt.engine.backends.torch import TorchBackend

    return TorchBackend(threads)


def _fake(threads: int) -> Backend:  # noqa: ARG001 (one signature for every backend)
    from exeunt.engine.backends.fake import FakeBackend

    return FakeBackend()


BACKENDS: dict[str, Callable[[int], Backend]] = {
    "onnxruntime": _onnxruntime,
    "torch": _torch,
    "fake": _fake,
}


def open_backend(name: str, threads: int) -> Backend:
    """Return the backend of that name with `threads` compute threads.

    Raises:
        ConfigError: there is no such backend, or the thread pool has another size already.
        BackendUnavailable: its library is missing or cannot run here.
    """
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}: expected one of {sorted(BACKENDS)}")
    return BACKENDS[name](threads)
