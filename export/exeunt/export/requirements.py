"""The libraries that export needs, checked before the first of them is imported."""

from importlib.util import find_spec

from exeunt.export.errors import ExportError

NEEDED = {
    "torch": "export",
    "onnx": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "onnxruntime": "cpu",
}


def require_libraries() -> None:
    """Check that everything that export imports is installed.

    Raises:
        ExportError: names the libraries that are missing and the command that installs them.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({NEEDED[name] for name in missing}))
        raise ExportError(
            f"export needs {', '.join(missing)}: run `pip install 'exeunt[{extras}]'`"
        )
