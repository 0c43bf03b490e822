"""The reference cosine of two hidden states, in NumPy."""

from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

Reduction = Literal["flattened", "token-mean", "min-token", "cls"]


def cosine(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    valid: NDArray[np.bool_] | None = None,
    reduction: Reduction = "flattened",
) -> NDArray[np.float32]:
    """Return how similar each sample's hidden state is before and after a layer.

    With h the layer's output, g its input and the tokens t that are valid::

        flattened   sum_t <h_t, g_t> / (sqrt(sum_t |h_t|^2) sqrt(sum_t |g_t|^2))
        token-mean  mean_t cos(h_t, g_t)
        min-token   min_t cos(h_t, g_t)
        cls         cos(h_0, g_0)

    MuE's code flattens the whole batch, padding included, into one vector, which couples samples;
    here each sample is compared with itself alone, over its valid tokens. At batch 1 without
    padding `flattened` is MuE's value.

    Reference: MuE, Eq. (7).

    Args:
        before: [B, T, D] float32, the layer's input.
        after: [B, T, D] float32, the layer's output.
        valid: [B, T] bool, false for padding; None where every token is valid.
        reduction: how the tokens become one number.

    Returns:
        [B] float32, clamped to [-1, 1] since rounding could lift a value above a threshold of 1;
        0 where a norm is zero or no token is valid; NaN where an input is not finite.
    """
    if reduction == "cls":
        return _ratio(*_sums(before[:, 0], after[:, 0]))
    dot, norm_before, norm_after = _sums(before, after)  # each [B, T]
    if reduction == "flattened":
        keep = np.ones_like(dot, dtype=bool) if valid is None else valid
        totals = (np.where(keep, part, 0.0).sum(axis=1) for part in (dot, norm_before, norm_after))
        return _ratio(*totals)
    tokens = _ratio(dot, norm_before, norm_after)
    keep = np.ones_like(tokens, dtype=bool) if valid is None else valid
    count = keep.sum(axis=1)
    if reduction == "token-mean":
        mean = np.where(keep, tokens, 0.0).sum(axis=1) / np.maximum(count, 1)
        return np.asarray(mean, dtype=np.float32)
    if reduction == "min-token":
        least = np.where(keep, tokens, np.float32(1.0)).min(axis=1)
        lowest: NDArray[np.float32] = np.where(count == 0, np.float32(0.0), least)
        return lowest
    assert_never(reduction)


def _sums(
    before: NDArray[np.float32], after: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return <h, g>, |g|^2 and |h|^2 over the last axis, accumulated in float32."""
    g = before.astype(np.float32, copy=False)
    h = after.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):  # padding may hold anything
        return (g * h).sum(axis=-1), (g * g).sum(axis=-1), (h * h).sum(axis=-1)


def _ratio(
    dot: NDArray[np.float32], norm_before: NDArray[np.float32], norm_after: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return dot / sqrt(norm_before norm_after), 0 where a norm is zero, within [-1, 1]."""
    with np.errstate(invalid="ignore"):
        scale = np.sqrt(norm_before) * np.sqrt(norm_after)
        safe = np.where(scale == 0.0, np.float32(1.0), scale)
        value = np.where(scale == 0.0, np.float32(0.0), dot / safe)
    return np.clip(value, -1.0, 1.0).astype(np.float32, copy=False)
