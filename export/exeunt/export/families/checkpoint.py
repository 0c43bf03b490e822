"""Reading a checkpoint directory: JSON and safetensors, and never a pickle."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from exeunt.engine.validation import first_problem
from exeunt.export.errors import ExportError

WEIGHTS_FILE = "model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_JSON_BYTES = 64 * 2**20


def read_json(file: Path) -> Any:  # noqa: ANN401 (JSON)
    """Return what a JSON file of the checkpoint holds.

    Raises:
        ExportError: the file is missing, too large or no JSON.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ExportError(f"{file} is over {MAX_JSON_BYTES} bytes: no checkpoint needs that")
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportError(f"{file} is missing: copy the whole checkpoint") from None
    except OSError as error:
        raise ExportError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{file} is damaged: {error}; copy the checkpoint again") from None


def read_weights(source: Path) -> dict[str, Tensor]:
    """Return the checkpoint's tensors by name.

    Raises:
        ExportError: the file is missing or damaged, or the weights are pickled.
    """
    file = source / WEIGHTS_FILE
    if not file.is_file():
        pickled = sorted(path.name for path in source.iterdir() if path.suffix in PICKLED)
        if pickled:
            raise ExportError(
                f"{source / pickled[0]} is a pickle, which can run any code when it is loaded:"
                f" save the weights as {WEIGHTS_FILE} (safetensors.torch.save_file)"
            )
        raise ExportError(f"{file} is missing: copy the whole checkpoint")
    try:
        weights: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ExportError(f"{file} is damaged: {error}; copy the checkpoint again") from None
    return weights


def invalid(file: Path, error: ValidationError) -> ExportError:
    """Return the error that names the first wrong key of a checkpoint's file."""
    where, what = first_problem(error)
    return ExportError(f"{file} is not valid at {where or 'its top'}: {what}")
