"""Importing OpenVINO, and what its one Core says of this machine."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from exeunt.engine.errors import BackendUnavailable

DEVICE = "CPU"
TELEMETRY = "openvino_telemetry"


@cache
def import_openvino() -> ModuleType:
    """Return the openvino module, imported without its telemetry.

    Raises:
        BackendUnavailable: it is not installed, or cannot be imported.
    """
    if find_spec("openvino") is None:
        raise BackendUnavailable(
            "OpenVINO is not installed: run `pip install 'exeunt[openvino]'`, or choose the backend"
            " onnxruntime"
        )
    try:
        with _without_telemetry():
            return import_module("openvino")
    except ImportError as error:
        raise BackendUnavailable(
            f"openvino is installed but cannot be imported ({error}): install it again"
        ) from error


@cache
def shared_core() -> Any:  # noqa: ANN401 (library without types)
    """Return the process's one Core; the segments of every engine share it.

    Raises:
        BackendUnavailable: OpenVINO is missing, or has no device for this machine's CPU.
    """
    library = import_openvino()
    try:
        core = library.Core()
        devices = list(core.available_devices)
    except Exception as error:  # the library documents no types
        raise BackendUnavailable(f"OpenVINO cannot start here: {reason(error)}") from error
    if DEVICE not in devices:
        raise BackendUnavailable(
            f"OpenVINO does not run on this machine's CPU, only on {devices}: choose the backend"
            " onnxruntime"
        )
    return core


def capabilities() -> frozenset[str]:
    """Return what OpenVINO says that this CPU can compute in: `FP32`, `BF16`, `INT8`.

    Raises:
        BackendUnavailable: OpenVINO is missing or cannot run here.
    """
    core = shared_core()
    try:
        return frozenset(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    except Exception as error:  # as above
        raise BackendUnavailable(
            f"OpenVINO does not say what this CPU can compute in: {reason(error)}"
        ) from error


def reason(error: Exception) -> str:
    """Return an error of the library in one line, without the places of its own source."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception from ")]
    return " ".join(said) or type(error).__name__


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let openvino find its telemetry package missing, which it takes in its stride.

    Importing openvino otherwise reports the import to an analytics service of the web, unasked, and
    keeps a client's id in the home directory.
    """
    if TELEMETRY in sys.modules:  # somebody else in this process wanted it
        yield
        return
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # documented: bars the import
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
