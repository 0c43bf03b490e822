"""Operators that work element by element, broadcasting as NumPy does."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from exeunt.engine.backends.torch.operators.attributes import Attributes, Builder, Call, always


def _div(left: Tensor, right: Tensor) -> Tensor:
    # ONNX divides integers as C does, towards zero.
    mode = None if left.is_floating_point() else "trunc"
    return torch.div(left, right, rounding_mode=mode)


def _pow(base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


def _mod(node: Attributes) -> Call:
    return torch.fmod if node.get("fmod", 0) else torch.remainder


def _clip(value: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    if least is not None:
        value = torch.maximum(value, least)
    return value if most is None else torch.minimum(value, most)


def _gelu(node: Attributes) -> Call:
    kind = node.get("approximate", "none")
    return lambda value: F.gelu(value, approximate=kind)


def _leaky_relu(node: Attributes) -> Call:
    slope = float(node.get("alpha", 0.01))
    return lambda value: F.leaky_relu(value, slope)


def _elu(node: Attributes) -> Call:
    alpha = float(node.get("alpha", 1.0))
    return lambda value: F.elu(value, alpha)


def _hard_sigmoid(node: Attributes) -> Call:
    slope, shift = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    return lambda value: torch.clamp(value * slope + shift, 0.0, 1.0)


def _cast(node: Attributes) -> Call:
    dtype = node.dtype("to")
    return lambda value: value.to(dtype)


def _fold(pair: Callable[[Tensor, Tensor], Tensor]) -> Builder:
    return always(lambda *values: reduce(pair, values))


def _mean(*values: Tensor) -> Tensor:
    return reduce(torch.add, values) / len(values)


def _identity(node: Attributes) -> Call:
    """Return the input; Dropout, too, does nothing while a model serves."""
    if node.outputs > 1:
        return lambda value, *_: (value, torch.ones_like(value, dtype=torch.bool))
    return lambda value, *_: value


ELEMENTWISE: dict[str, Builder] = {
    "Abs": always(torch.abs),
    "Add": always(torch.add),
    "And": always(torch.logical_and),
    "Cast": _cast,
    "CastLike": always(lambda value, like: value.to(like.dtype)),
    "Ceil": always(torch.ceil),
    "Clip": always(_clip),
    "Cos": always(torch.cos),
    "Div": always(_div),
    "Dropout": _identity,
    "Elu": _elu,
    "Equal": always(torch.eq),
    "Erf": always(torch.erf),
    "Exp": always(torch.exp),
    "Floor": always(torch.floor),
    "Gelu": _gelu,
    "Greater": always(torch.gt),
    "GreaterOrEqual": always(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": always(F.hardswish),
    "Identity": _identity,
    "IsInf": always(torch.isinf),
    "IsNaN": always(torch.isnan),
    "LeakyRelu": _leaky_relu,
    "Less": always(torch.lt),
    "LessOrEqual": always(torch.le),
    "Log": always(torch.log),
    "Max": _fold(torch.maximum),
    "Mean": always(_mean),
    "Min": _fold(torch.minimum),
    "Mod": _mod,
    "Mul": always(torch.mul),
    "Neg": always(torch.neg),
    "Not": always(torch.logical_not),
    "Or": always(torch.logical_or),
    "Pow": always(_pow),
    "Reciprocal": always(torch.reciprocal),
    "Relu": always(torch.relu),
    "Round": always(torch.round),
    "Sigmoid": always(torch.sigmoid),
    "Sign": always(torch.sign),
    "Sin": always(torch.sin),
    "Softplus": always(F.softplus),
    "Sqrt": always(torch.sqrt),
    "Sub": always(torch.sub),
    "Sum": _fold(torch.add),
    "Tanh": always(torch.tanh),
    "Where": always(torch.where),
    "Xor": always(torch.logical_xor),
}
