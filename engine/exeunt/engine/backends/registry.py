"""The backends by name; each one's library is imported only when it is asked for."""

from collections.abc import Callable

from exeunt.engine.backends.base import Backend
from exeunt.engine.config import Precision
from exeunt.engine.errors import ConfigError


def _onnxruntime(threads: int, streams: int, _precision: Precision) -> Backend:
    from exeunt.engine.backends.onnxruntime import OnnxRuntimeBackend

    # A pool of n threads is n - 1 of its own and the caller's, of which there is one a stream.
    return OnnxRuntimeBackend(threads - streams + 1)


def _openvino(threads: int, streams: int, precision: Precision) -> Backend:
    from exeunt.engine.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(threads, precision, streams)


def _torch(threads: int, streams: int, _precision: Precision) -> Backend:
    from exeunt.engine.backends.torch import TorchBackend

    return TorchBackend(threads // streams)  # each caller has a pool of its own


def _fake(_threads: int, _streams: int, _precision: Precision) -> Backend:
    from exeunt.engine.backends.fake import FakeBackend

    return FakeBackend()


BACKENDS: dict[str, Callable[[int, int, Precision], Backend]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
    "fake": _fake,
}
REDUCED_PRECISION = ("openvino",)


def open_backend(
    name: str, threads: int, precision: Precision = "fp32", streams: int = 1
) -> Backend:
    """Return the backend of that name.

    Args:
        name: as in the configuration.
        threads: compute threads, of all streams together.
        precision: what matrix products are computed in.
        streams: callers that run segments at once; they divide `threads`.

    Raises:
        ConfigError: there is no such backend, it or this CPU cannot compute in that precision, or
            the thread pool has another size already.
        BackendUnavailable: its library is missing or cannot run here.
    """
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}: expected one of {sorted(BACKENDS)}")
    if precision != "fp32" and name not in REDUCED_PRECISION:
        raise ConfigError(
            f"the backend {name} computes in fp32 alone, and precision {precision} was asked for:"
            f" set precision to fp32, or backend to {' or '.join(REDUCED_PRECISION)}"
        )
    return BACKENDS[name](threads, streams, precision)
