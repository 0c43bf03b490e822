"""Each criterion's score once more, by the textbook formula in float64, one unit at a time."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def probabilities(logits: Array, temperature: float = 1.0) -> list[float]:
    """Return softmax(z / T), by sums of Python floats; a NaN or +inf anywhere makes all NaN."""
    values = [float(value) for value in logits]
    if any(math.isnan(value) or value == math.inf for value in values):
        return [math.nan] * len(values)
    top = max(values)
    if top == -math.inf:
        return [math.nan] * len(values)
    weights = [math.exp((value - top) / temperature) for value in values]
    return [weight / math.fsum(weights) for weight in weights]


def entropy(logits: Array) -> float:
    """Return -sum p ln p, nothing for p = 0."""
    shares = probabilities(logits)
    return math.fsum(-share * math.log(share) for share in shares if share != 0.0)


def confidence(logits: Array, temperature: float = 1.0) -> float:
    """Return the largest probability."""
    return max(probabilities(logits, temperature))


def margin(logits: Array) -> float:
    """Return the gap between the two largest probabilities."""
    shares = sorted(probabilities(logits), reverse=True)
    return shares[0] - shares[1]


def cosine(before: Array, after: Array, valid: Array, reduction: str = "flattened") -> float:
    """Return the similarity of [T, D] before and after, over the tokens that are valid."""
    old, new = before.astype(np.float64), after.astype(np.float64)
    if reduction == "cls":
        return _angle(old[0], new[0])
    kept = [place for place in range(len(old)) if valid[place]]
    if not kept:
        return 0.0
    if reduction == "flattened":
        return _angle(old[kept].ravel(), new[kept].ravel())
    tokens = [_angle(old[place], new[place]) for place in kept]
    return min(tokens) if reduction == "min-token" else math.fsum(tokens) / len(tokens)


def _angle(old: Array, new: Array) -> float:
    scale = math.sqrt(float(old @ old)) * math.sqrt(float(new @ new))
    return 0.0 if scale == 0.0 else max(-1.0, min(1.0, float(old @ new) / scale))
