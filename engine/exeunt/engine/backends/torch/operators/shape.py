"""Operators that make, reshape, join and cut tensors."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from exeunt.engine.backends.torch.operators.attributes import (
    Attributes,
    Builder,
    Call,
    UnsupportedError,
    always,
    sizes,
)


def _constant(node: Attributes) -> Call:
    value = node.get("value", None)
    for kind, dtype in (("float", torch.float32), ("int", torch.int64)):
        for name in (f"value_{kind}", f"value_{kind}s"):
            if (number := node.get(name, None)) is not None:
                value = torch.tensor(number, dtype=dtype)
    if not isinstance(value, Tensor):
        raise UnsupportedError("Constant that is no tensor and no number")
    constant: Tensor = value
    return lambda: constant


def _constant_of_shape(node: Attributes) -> Call:
    value = node.get("value", None)
    fill = torch.zeros(1) if value is None else value
    return lambda shape: fill.reshape(()).expand(sizes(shape))


def _shape(node: Attributes) -> Call:
    start, end = int(node.get("start", 0)), node.get("end", None)
    return lambda value: torch.tensor(value.shape[start:end], dtype=torch.int64)


def _reshape(node: Attributes) -> Call:
    keep_zero = bool(node.get("allowzero", 0))

    def call(value: Tensor, shape: Tensor) -> Tensor:
        wanted = sizes(shape)
        if not keep_zero:  # a 0 copies the input's size
            wanted = [size or value.shape[axis] for axis, size in enumerate(wanted)]
        return value.reshape(wanted)

    return call


def _flatten(node: Attributes) -> Call:
    axis = int(node.get("axis", 1))

    def call(value: Tensor) -> Tensor:
        cut = axis if axis >= 0 else axis + value.ndim
        rows = 1
        for size in value.shape[:cut]:
            rows *= size
        columns = 1
        for size in value.shape[cut:]:
            columns *= size
        return value.reshape(rows, columns)

    return call


def _transpose(node: Attributes) -> Call:
    order = node.ints("perm")
    return lambda value: value.permute(order or list(reversed(range(value.ndim))))


def _concat(node: Attributes) -> Call:
    axis = int(node.get("axis", 0))
    return lambda *values: torch.cat(values, dim=axis)


def _split(node: Attributes) -> Call:
    axis, parts = int(node.get("axis", 0)), int(node.get("num_outputs", node.outputs))

    def call(value: Tensor, split: Tensor | None = None) -> tuple[Tensor, ...]:
        if split is not None:
            return torch.split(value, sizes(split), dim=axis)
        # The last part is the smaller one where the size is no multiple.
        return torch.split(value, -(-value.shape[axis] // parts), dim=axis)

    return call


def _unsqueeze(value: Tensor, axes: Tensor) -> Tensor:
    places = sizes(axes)
    rank = value.ndim + len(places)
    for axis in sorted(place % rank for place in places):
        value = value.unsqueeze(axis)
    return value


def _squeeze(value: Tensor, axes: Tensor | None = None) -> Tensor:
    if axes is None:
        return value.squeeze()
    places = sizes(axes)
    if wrong := [place for place in places if value.shape[place] != 1]:
        raise ValueError(f"axes {wrong} of {list(value.shape)} cannot go: they are not 1")
    return value.squeeze(tuple(places))


def _expand(value: Tensor, shape: Tensor) -> Tensor:
    # ONNX broadcasts both ways: a size of 1 in `shape` keeps the input's.
    return value.expand(np.broadcast_shapes(tuple(value.shape), tuple(sizes(shape))))


def _tile(value: Tensor, repeats: Tensor) -> Tensor:
    return value.repeat(sizes(repeats))


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _pad(node: Attributes) -> Call:
    mode = node.get("mode", "constant")
    node.expect("mode", "constant", "constant")

    def call(
        value: Tensor, pads: Tensor, fill: Tensor | None = None, axes: Tensor | None = None
    ) -> Tensor:
        given = sizes(pads)
        places = list(range(value.ndim)) if axes is None else sizes(axes)
        pairs = [0] * (2 * value.ndim)
        for place, axis in enumerate(places):
            last = value.ndim - 1 - axis % value.ndim  # torch counts from the last axis
            pairs[2 * last : 2 * last + 2] = [given[place], given[place + len(places)]]
        return F.pad(value, pairs, mode, 0 if fill is None else fill.item())

    return call


def _trilu(node: Attributes) -> Call:
    cut = torch.triu if node.get("upper", 1) else torch.tril
    return lambda value, diagonal=None: cut(value, 0 if diagonal is None else int(diagonal))


SHAPE: dict[str, Builder] = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Expand": always(_expand),
    "Flatten": _flatten,
    "Pad": _pad,
    "Range": always(_range),
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": always(lambda value: torch.tensor(value.numel(), dtype=torch.int64)),
    "Split": _split,
    "Squeeze": always(_squeeze),
    "Tile": always(_tile),
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": always(_unsqueeze),
}
