"""The reference softmax and its maximum, in NumPy."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return the softmax of each row at a temperature T.

    With m = max z: p = e^((z - m) / T) / sum e^((z - m) / T).

    Args:
        logits: [B, C] float32.
        temperature: T > 0; above 1 softens the distribution.

    Returns:
        [B, C] float32, each row summing to 1; NaN for a row that holds NaN or +inf.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (logits - logits.max(axis=-1, keepdims=True)) / np.float32(temperature)
        weights = np.exp(scaled)
        probabilities: NDArray[np.float32] = weights / weights.sum(axis=-1, keepdims=True)
        return probabilities


def confidence(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return the largest probability of softmax(z / T) of each row.

    Reference: the exit rule of BranchyNet-style models with a temperature per exit, as in
    `softmax(z / T_l) >= theta`.

    Args:
        logits: [B, C] float32.
        temperature: T > 0.

    Returns:
        [B] float32 in [1 / C, 1]; NaN for a row that holds NaN or +inf.
    """
    largest: NDArray[np.float32] = softmax(logits, temperature).max(axis=-1)
    return largest
