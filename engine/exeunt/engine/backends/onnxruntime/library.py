"""Importing ONNX Runtime: two packages share the import name, exactly one may be installed."""

from importlib import import_module, metadata
from types import ModuleType

from exeunt.engine.errors import BackendUnavailable

PACKAGES = ("onnxruntime", "onnxruntime-gpu")


def installed_packages() -> list[str]:
    """Return which of the packages that provide `onnxruntime` are installed."""
    found = []
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def import_onnxruntime() -> ModuleType:
    """Return the onnxruntime module.

    Raises:
        BackendUnavailable: neither package is installed, or both are.
    """
    found = installed_packages()
    if not found:
        raise BackendUnavailable(
            "ONNX Runtime is not installed: run `pip install 'exeunt[cpu]'` (or `exeunt[gpu]` on a"
            " machine with a CUDA device)"
        )
    if len(found) > 1:
        raise BackendUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files:"
            " run `pip uninstall onnxruntime onnxruntime-gpu`, then install exactly one of"
            " `exeunt[cpu]` and `exeunt[gpu]`"
        )
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise BackendUnavailable(
            f"{found[0]} is installed but cannot be imported ({error}): install it again"
        ) from error
