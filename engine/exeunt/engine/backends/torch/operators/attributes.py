"""A node's attributes, read once when the graph is loaded."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

# Takes the node's input tensors, None where an optional one is left out.
Call = Callable[..., Tensor | tuple[Tensor, ...]]

DTYPES: dict[int, torch.dtype] = {  # numbers of onnx.TensorProto.DataType
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


class UnsupportedError(Exception):
    """A graph has an operator, or an attribute of one, that this backend does not run."""


class Attributes:
    """The attributes of one node, each with its default where it is absent.

    operator: its type, for messages. outputs: how many the node names.
    """

    def __init__(self, operator: str, values: Mapping[str, object], outputs: int = 1) -> None:
        self.operator = operator
        self.outputs = outputs
        self._values = values

    def get(self, name: str, default: Any) -> Any:  # noqa: ANN401 (checked by ONNX)
        """Return the attribute, or `default`."""
        return self._values.get(name, default)

    def ints(self, name: str) -> list[int] | None:
        """Return a list of integers, or None."""
        values = self._values.get(name)
        return None if values is None else [int(value) for value in values]  # type: ignore[attr-defined]

    def dtype(self, name: str) -> torch.dtype:
        """Return a dtype.

        Raises:
            UnsupportedError: torch has none like it.
        """
        number = int(self.get(name, 1))
        if number not in DTYPES:
            raise UnsupportedError(f"{self.operator} to ONNX data type {number}")
        return DTYPES[number]

    def expect(self, name: str, allowed: object, default: object) -> None:
        """Raise UnsupportedError unless the attribute has the only value that is implemented."""
        if (found := self._values.get(name, default)) != allowed:
            raise UnsupportedError(f"{self.operator} with {name}={found!r}")


Builder = Callable[[Attributes], Call]


def always(call: Call) -> Builder:
    """Return the builder of an operator without attributes."""
    return lambda _: call


def sizes(tensor: Tensor) -> list[int]:
    """Return an integer tensor of rank 1 or 0 as a list."""
    return [int(value) for value in tensor.reshape(-1).tolist()]
