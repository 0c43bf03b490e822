"""Operators that reduce an axis or run along one."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from exeunt.engine.backends.torch.operators.attributes import (
    Attributes,
    Builder,
    Call,
    UnsupportedError,
    sizes,
)

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _reduce(reduction: Reduction) -> Builder:
    def build(node: Attributes) -> Call:
        keep = bool(node.get("keepdims", 1))
        fixed = node.ints("axes")  # an attribute up to opset 17, an input after
        noop = bool(node.get("noop_with_empty_axes", 0))

        def call(value: Tensor, axes: Tensor | None = None) -> Tensor:
            dims = fixed if axes is None else sizes(axes)
            if not dims:
                if noop:
                    return value
                dims = list(range(value.ndim))
            return reduction(value, dims, keep)

        return call

    return build


def _prod(value: Tensor, dims: list[int], keep: bool) -> Tensor:
    for dim in sorted((dim % value.ndim for dim in dims), reverse=True):
        value = value.prod(dim=dim, keepdim=keep)
    return value


def _arg(reduction: Callable[..., Tensor]) -> Builder:
    def build(node: Attributes) -> Call:
        axis, keep = int(node.get("axis", 0)), bool(node.get("keepdims", 1))
        node.expect("select_last_index", 0, 0)
        return lambda value: reduction(value, dim=axis, keepdim=keep)

    return build


def _along(function: Callable[..., Tensor]) -> Builder:
    def build(node: Attributes) -> Call:
        axis = int(node.get("axis", -1))
        return lambda value: function(value, dim=axis)

    return build


def _cumsum(node: Attributes) -> Call:
    node.expect("exclusive", 0, 0)
    node.expect("reverse", 0, 0)
    return lambda value, axis: torch.cumsum(value, dim=int(axis)).to(value.dtype)


def _top_k(node: Attributes) -> Call:
    axis, largest = int(node.get("axis", -1)), bool(node.get("largest", 1))

    def call(value: Tensor, k: Tensor) -> tuple[Tensor, ...]:
        # A stable sort: among equal values ONNX wants the lower index first.
        values, indices = torch.sort(value, dim=axis, descending=largest, stable=True)
        count = int(k)
        return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)

    return call


def _layer_norm(node: Attributes) -> Call:
    axis, epsilon = int(node.get("axis", -1)), float(node.get("epsilon", 1e-5))
    if node.outputs > 1:
        raise UnsupportedError("LayerNormalization with its mean or deviation as outputs")

    def call(value: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = value.shape[axis:]
        wide = scale.expand(shape)
        return F.layer_norm(
            value, shape, wide, None if bias is None else bias.expand(shape), epsilon
        )

    return call


REDUCTION: dict[str, Builder] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "CumSum": _cumsum,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _along(torch.log_softmax),
    "ReduceL2": _reduce(lambda value, dims, keep: torch.linalg.vector_norm(value, 2, dims, keep)),
    "ReduceMax": _reduce(lambda value, dims, keep: torch.amax(value, dims, keep)),
    "ReduceMean": _reduce(lambda value, dims, keep: torch.mean(value, dims, keep)),
    "ReduceMin": _reduce(lambda value, dims, keep: torch.amin(value, dims, keep)),
    "ReduceProd": _reduce(_prod),
    "ReduceSum": _reduce(lambda value, dims, keep: torch.sum(value, dims, keep, dtype=value.dtype)),
    "Softmax": _along(torch.softmax),
    "TopK": _top_k,
}
