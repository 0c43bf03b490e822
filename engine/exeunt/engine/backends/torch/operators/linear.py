"""Matrix products, convolutions and what stands around them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from exeunt.engine.backends.torch.operators.attributes import (
    Attributes,
    Builder,
    Call,
    UnsupportedError,
    always,
)


def _gemm(node: Attributes) -> Call:
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    turn_left, turn_right = bool(node.get("transA", 0)), bool(node.get("transB", 0))

    def call(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
        left = left.t() if turn_left else left
        right = right.t() if turn_right else right
        if bias is None:
            return (left @ right) * alpha
        return torch.addmm(bias, left, right, beta=beta, alpha=alpha)

    return call


def _conv(node: Attributes) -> Call:
    node_pads, strides = node.ints("pads"), node.ints("strides")
    dilations, group = node.ints("dilations"), int(node.get("group", 1))
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UnsupportedError(f"Conv with auto_pad={node.get('auto_pad', '')!r}")

    def call(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = value.ndim - 2
        if rank not in (1, 2, 3):
            raise ValueError(f"a convolution over {rank} axes is not implemented")
        pads = node_pads or [0] * (2 * rank)
        if any(pads):
            value = F.pad(value, _torch_pads(pads))
        convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        result: Tensor = convolve(
            value,
            weight,
            bias,
            stride=strides or [1] * rank,
            dilation=dilations or [1] * rank,
            groups=group,
        )
        return result

    return call


def _torch_pads(pads: list[int]) -> list[int]:
    """Return ONNX's (all begins, all ends) as torch's pairs, the last axis first."""
    rank = len(pads) // 2
    return [pads[axis + side * rank] for axis in reversed(range(rank)) for side in (0, 1)]


def _max_pool(node: Attributes) -> Call:
    kernel = node.ints("kernel_shape")
    strides, dilations = node.ints("strides"), node.ints("dilations")
    pads = node.ints("pads")
    node.expect("auto_pad", "NOTSET", "NOTSET")
    node.expect("ceil_mode", 0, 0)
    if kernel is None or len(kernel) != 2 or node.outputs > 1:
        raise UnsupportedError("MaxPool other than over two axes, without indices")

    def call(value: Tensor) -> Tensor:
        if pads and any(pads):
            value = F.pad(value, _torch_pads(pads), value=float("-inf"))
        return F.max_pool2d(value, kernel, strides or [1, 1], 0, dilations or [1, 1])

    return call


def _batch_norm(node: Attributes) -> Call:
    node.expect("training_mode", 0, 0)
    epsilon = float(node.get("epsilon", 1e-5))

    def call(value: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(value, mean, variance, scale, bias, eps=epsilon)

    return call


def _global_average(value: Tensor) -> Tensor:
    return value.mean(dim=list(range(2, value.ndim)), keepdim=True)


def _einsum(node: Attributes) -> Call:
    equation = str(node.get("equation", ""))
    return lambda *values: torch.einsum(equation, *values)


LINEAR: dict[str, Builder] = {
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GlobalAveragePool": always(_global_average),
    "MatMul": always(torch.matmul),
    "MaxPool": _max_pool,
}
