"""Operators that pick elements by place."""

import torch
from torch import Tensor

from exeunt.engine.backends.torch.operators.attributes import (
    Attributes,
    Builder,
    Call,
    always,
    sizes,
)


def _slice(
    value: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = sizes(starts), sizes(ends)
    places = list(range(len(first))) if axes is None else sizes(axes)
    strides = [1] * len(first) if steps is None else sizes(steps)
    for axis, start, end, step in zip(places, first, last, strides, strict=True):
        value = _slice_axis(value, axis, start, end, step)
    return value


def _slice_axis(value: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    length = value.shape[axis]
    if step > 0:  # out of range is cut off, as Python's own slices do
        begin, stop, _ = slice(start, end, step).indices(length)
        cut = [slice(None)] * value.ndim
        cut[axis] = slice(begin, max(begin, stop), step)
        return value[tuple(cut)]
    # torch has no negative steps. An end below -length means "past the first element".
    picked = list(range(length))[slice(start, None if end < -length else end, step)]
    return value.index_select(axis, torch.tensor(picked, dtype=torch.int64))


def _from_front(indices: Tensor, length: int) -> Tensor:
    """Return the indices as int64 with negative ones counted from the end."""
    wide = indices.to(torch.int64)
    return torch.where(wide < 0, wide + length, wide)


def _gather(node: Attributes) -> Call:
    axis = int(node.get("axis", 0))

    def call(value: Tensor, indices: Tensor) -> Tensor:
        place = axis % value.ndim
        flat = _from_front(indices, value.shape[place]).reshape(-1)
        shape = (*value.shape[:place], *indices.shape, *value.shape[place + 1 :])
        return value.index_select(place, flat).reshape(shape)

    return call


def _gather_elements(node: Attributes) -> Call:
    axis = int(node.get("axis", 0))

    def call(value: Tensor, indices: Tensor) -> Tensor:
        cut = tuple(
            slice(None) if place == axis % value.ndim else slice(size)
            for place, size in enumerate(indices.shape)
        )
        return value[cut].gather(axis, _from_front(indices, value.shape[axis]))

    return call


def _gather_nd(node: Attributes) -> Call:
    node.expect("batch_dims", 0, 0)

    def call(value: Tensor, indices: Tensor) -> Tensor:
        return value[tuple(indices.to(torch.int64).unbind(-1))]

    return call


def _scatter_nd(node: Attributes) -> Call:
    node.expect("reduction", "none", "none")

    def call(value: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        result = value.clone()
        result[tuple(indices.to(torch.int64).unbind(-1))] = updates
        return result

    return call


def _non_zero(value: Tensor) -> Tensor:
    return value.nonzero().t()


INDEXING: dict[str, Builder] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": always(_non_zero),
    "ScatterND": _scatter_nd,
    "Slice": always(_slice),
}
