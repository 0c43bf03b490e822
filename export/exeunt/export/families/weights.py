"""Reading a checkpoint's weights, safetensors or pickled, without running code in them."""

import pickle
import re
import warnings
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from exeunt.export.errors import ExportError

# Where official code and Hugging Face write weights; the first pattern that matches counts.
PATTERNS = (
    "model.safetensors",
    "*.safetensors",
    "pytorch_model.bin",
    "ckpt/*.pt",
    "*.pt",
    "*.pth",
    "*.th",
    "*.model",
    "*.ckpt",
    "*.bin",
)
NESTS = ("model", "state_dict", "model_state_dict")  # where official files keep the tensors
WRAPPERS = ("module.", "_orig_mod.")  # of what once wrapped the model, before every key
OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of LayerNorm, in TensorFlow's words
# What pickled files hold beside tensors and cannot do harm: attributes of arguments, numbers.
ALLOWED = (Namespace,)


@dataclass(frozen=True)
class Weights:
    """A checkpoint's tensors by name, float32 where they are floating. file: where they were."""

    file: Path
    tensors: dict[str, Tensor]


def find_weights(source: Path) -> Path:
    """Return the file that holds the weights of the checkpoint directory `source`.

    Of `model_step_N` the largest N counts.

    Raises:
        ExportError: there is none, or it is not clear which one.
    """
    for pattern in PATTERNS:
        found = sorted(source.glob(pattern))
        if len(found) > 1:
            steps = {_step(file): file for file in found}
            if None in steps or len(steps) < len(found):
                names = ", ".join(str(file.relative_to(source)) for file in found)
                raise ExportError(f"{source} has several files of weights ({names}): keep one")
            found = [steps[max(step for step in steps if step is not None)]]
        if found:
            return found[0]
    raise ExportError(
        f"{source} has no weights: expected one of {', '.join(PATTERNS)}; copy the whole checkpoint"
    )


def _step(file: Path) -> int | None:
    number = re.search(r"(\d+)$", file.stem)
    return int(number[1]) if number else None


def read_state_dict(source: Path) -> Weights:
    """Return the tensors of the checkpoint directory `source`, under today's names.

    They may lie in a `model` or `state_dict`, behind `module.`, in half precision, and call a
    LayerNorm's parameters gamma and beta.

    Raises:
        ExportError: the file is missing, damaged, pickled with objects in it, or holds no tensors.
    """
    file = find_weights(source)
    content = load_safetensors(file) if file.suffix == ".safetensors" else load_pickle(file)
    return Weights(file, _renamed(_tensors(content, file)))


def load_safetensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ExportError: it is damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ExportError(f"{file} is damaged: {error}; copy the checkpoint again") from None
    return tensors


def load_pickle(file: Path) -> object:
    """Return what a file of `torch.save` holds: tensors, numbers, and what `ALLOWED` lists.

    Namespaces become dicts.

    Raises:
        ExportError: it is damaged, or holds objects that could run code.
    """
    try:
        with torch.serialization.safe_globals(list(ALLOWED)), warnings.catch_warnings():
            # What torch cannot read of another protocol it refuses; there is nothing to warn of.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ExportError(
            f"{file} holds pickled objects, which can run any code when they are loaded"
            f" ({_pickled(file, error)}): load it once, where you trust it, and torch.save its"
            " tensors alone (or safetensors.torch.save_file)"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ExportError(
            f"{file} is damaged: {first_line(error)}; copy the checkpoint again"
        ) from None
    return _plain(content)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _plain(content: object) -> object:
    if isinstance(content, Namespace):
        content = vars(content)
    if type(content) is dict:
        return {name: _plain(value) for name, value in content.items()}
    return content


def _pickled(file: Path, error: Exception) -> str:
    """Return the names of what the file would load beside tensors."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except (pickle.UnpicklingError, ValueError, RuntimeError):  # an old file, or no zip at all
        return first_line(error)
    return ", ".join(sorted(named)) or first_line(error)


def _tensors(content: object, file: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a file's content, wherever official code keeps them."""
    for nest in NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
            break
    if not isinstance(content, Mapping) or not content:
        kind = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ExportError(
            f"{file} holds {kind}: expected tensors by name, or a dict with {' or '.join(NESTS)}"
        )
    if strange := [name for name, value in content.items() if not isinstance(value, Tensor)]:
        raise ExportError(f"{file}: {strange[0]!r} is no tensor: expected tensors by name")
    return content


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {str(name): tensor for name, tensor in tensors.items()}
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in named):
            named = {name.removeprefix(wrapper): tensor for name, tensor in named.items()}
    return {
        _todays(name): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in named.items()
    }


def _todays(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.{OLD_NAMES[last]}" if stem and last in OLD_NAMES else name
