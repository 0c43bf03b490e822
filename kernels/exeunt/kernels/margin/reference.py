"""The reference margin, in NumPy."""

import numpy as np
from numpy.typing import NDArray

from exeunt.kernels.confidence.reference import softmax


def margin(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return p1 - p2, the two largest probabilities of the softmax of each row.

    Reference: the `softmax` confidence of CALM (top-1 minus top-2 probability).

    Args:
        logits: [B, C] float32 with C >= 2.

    Returns:
        [B] float32 in [0, 1]; NaN for a row that holds NaN or +inf.
    """
    probabilities = softmax(logits)
    top = np.partition(probabilities, -2, axis=-1)[:, -2:]
    gap: NDArray[np.float32] = top[:, 1] - top[:, 0]
    return gap
