"""What a criterion sees, and what it answers."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]  # [U], one for each decision unit
Fired = NDArray[np.bool_]  # [U]
Threshold = float | NDArray[np.float64]  # of all units, or [1], or [U]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a batch of U decision units shows after one layer, filled by the executor.

    layer: counts from 1. logits: [U, C] float32, None where no criterion reads them. before,
    after: [U, T, D] float32, the compared hidden state before and after the layer; a group's rows
    stand side by side on the token axis. valid: [U, T] bool, false for padding. streak: [U] int64,
    layers in a row whose answer equals the one before (patience), this layer included.
    """

    layer: int
    logits: NDArray[np.float32] | None = None
    before: NDArray[np.float32] | None = None
    after: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None
    streak: NDArray[np.int64] | None = None


class Criterion(Protocol):
    """A rule's score and its comparison with a threshold."""

    @property
    def reads(self) -> Literal["logits", "hidden"]:
        """Say which part of the evidence the score is made of."""
        ...

    def score(self, evidence: Evidence) -> Scores:
        """Return [U] scores."""
        ...

    def fires(self, scores: Scores, threshold: Threshold) -> Fired:
        """Return [U] whether each unit may leave; never true for NaN.

        Args:
            scores: [U].
            threshold: one for all, or float64 [1] or [U].
        """
        ...


def required(part: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return a part of the evidence that the executor must have filled."""
    assert part is not None, "the executor fills what the policy's criteria read"
    return part


def answerable(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return [U] whether a row of [U, C] logits has a finite answer.

    -inf is allowed (an answer that is ruled out) as long as one logit is finite; NaN and +inf are
    not.
    """
    answer: NDArray[np.bool_] = np.isfinite(logits.max(axis=-1))
    return answer
