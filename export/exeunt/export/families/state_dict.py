"""Loading tensors into a model strictly: every key, every shape, and who they would fit."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn

from exeunt.export.errors import ExportError
from exeunt.export.families.weights import Weights


class MisfitError(ExportError):
    """A checkpoint's tensors are not those of the family. keys: what they are called."""

    def __init__(self, message: str, keys: tuple[str, ...]) -> None:
        super().__init__(message)
        self.keys = keys


def fit(model: nn.Module, weights: Weights, *, unused: tuple[str, ...] = ()) -> None:
    """Load a checkpoint's tensors into `model`, strictly.

    Args:
        model: whose `state_dict` has the checkpoint's keys.
        weights: as read.
        unused: keys that official files have and inference does not read, `*` for a part of one.

    Raises:
        MisfitError: a tensor is missing, unknown or of another shape; names the first.
    """
    tensors = {
        name: tensor
        for name, tensor in weights.tensors.items()
        if not any(fnmatchcase(name, pattern) for pattern in unused)
    }
    check_fit(model.state_dict(), tensors, weights)
    model.load_state_dict(tensors)


def check_fit(
    wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], weights: Weights
) -> None:
    """Raise where tensors are not those that a model wants.

    Raises:
        MisfitError: names the first missing, unknown or misshaped key.
    """
    keys = tuple(weights.tensors)
    missing = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted]
    if missing:
        instead = f"; it has {unknown[0]!r}, which is not expected" if unknown else ""
        raise MisfitError(
            f"{weights.file} lacks {missing[0]!r}, {list(wanted[missing[0]].shape)}"
            f" ({len(missing)} of the expected {len(wanted)} tensors are missing){instead}",
            keys,
        )
    if unknown:
        raise MisfitError(
            f"{weights.file} has {unknown[0]!r}, {list(tensors[unknown[0]].shape)}, which is not"
            f" expected ({len(unknown)} tensors are not): a part of the model that would be lost",
            keys,
        )
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            raise MisfitError(
                f"{weights.file}: {name!r} has the shape {list(tensors[name].shape)}, expected"
                f" {list(tensor.shape)}: its config is of another checkpoint",
                keys,
            )


def required(weights: Weights, name: str, axes: int) -> Tensor:
    """Return a tensor that the model's sizes are read from.

    Raises:
        MisfitError: it is missing, or has another number of axes.
    """
    tensor = weights.tensors.get(name)
    if tensor is None:
        first = next(iter(weights.tensors))
        raise MisfitError(
            f"{weights.file} lacks {name!r}; its first tensor is {first!r}", tuple(weights.tensors)
        )
    if tensor.dim() != axes:
        raise MisfitError(
            f"{weights.file}: {name!r} has the shape {list(tensor.shape)}, expected {axes} axes",
            tuple(weights.tensors),
        )
    return tensor
