"""The reference entropy, in NumPy."""

import numpy as np
from numpy.typing import NDArray

FLOOR = np.float32(-1e4)  # stands for -inf


def entropy(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the entropy of the softmax of each row of logits, in nats.

    With m = max z and u = z - m::

        H = ln sum(e^u) - sum(e^u u) / sum(e^u)

    which is UNITER-MSD's formula with the maximum taken out first: the printed form overflows
    for logits of 89 and more. A logit of -inf (an answer that is not allowed) adds nothing: its
    e^u u is 0. Rounding can make a certain row's entropy slightly negative: it is clamped to 0.

    Reference: UNITER-MSD, Eq. (18).

    Args:
        logits: [B, C] float32.

    Returns:
        [B] float32 in [0, ln C]; NaN for a row that holds NaN or +inf, or only -inf.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = logits - logits.max(axis=-1, keepdims=True)  # [B, C], at most 0
        # e^u is 0 in float32 long before the floor, and 0 times a finite number is 0.
        np.maximum(shifted, FLOOR, out=shifted)
        weights = np.exp(shifted)
        total = weights.sum(axis=-1)
        moment = (weights * shifted).sum(axis=-1)
        value: NDArray[np.float32] = np.maximum(np.log(total) - moment / total, np.float32(0.0))
        return value
