"""The reference of an evaluation: the same bundle to full depth in float32 under ONNX Runtime."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exeunt.engine import Engine, EngineConfig

REFERENCE = "full depth in fp32 under ONNX Runtime"


def needs_reference(config: EngineConfig) -> bool:
    """Return whether an engine computes otherwise than the reference does.

    The backend `fake` computes no model, so that nothing of it can be compared.
    """
    return config.backend != "fake" and (config.backend, config.precision) != (
        "onnxruntime",
        "fp32",
    )


@contextmanager
def open_reference(bundle: Path | None, config: EngineConfig) -> Iterator[Engine | None]:
    """Open the engine that answers are compared with, None where the engine is one of that kind.

    Args:
        bundle: the judged engine's directory; the embedded bundle without it.
        config: the judged engine's; the reference has its threads, batches and limits.

    Raises:
        BackendUnavailable: ONNX Runtime is not installed.
        BundleError: the bundle cannot be opened.
    """
    if not needs_reference(config):
        yield None
        return
    changes = {"backend": "onnxruntime", "precision": "fp32", "layout": "auto"}
    with Engine.open(bundle, config.model_copy(update=changes)) as engine:
        yield engine
