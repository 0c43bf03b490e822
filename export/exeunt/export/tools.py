"""The versions of what writes a bundle."""

import platform
from importlib import metadata

PACKAGES = ("exeunt", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "torch")


def tool_versions() -> dict[str, str]:
    """Return the installed versions, by package."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
