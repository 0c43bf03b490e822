"""The patience criterion."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.criteria.base import Evidence, Fired, Scores, Threshold, answerable


@dataclass(frozen=True)
class Patience:
    """Leave when t layers in a row answered the same as the layer before.

    The streak counts from 0 at layer 1, so the earliest exit is layer t + 1; t = 0 never fires,
    which is PABEE's full model.

    Reference: PABEE, section 3 (the counter of equal predictions).
    """

    reads: Literal["logits"] = "logits"

    def score(self, evidence: Evidence) -> Scores:
        """Return the streak of each unit."""
        assert evidence.streak is not None, "the executor counts the streak for patience"
        return evidence.streak.astype(np.float32)

    def fires(self, scores: Scores, threshold: Threshold) -> Fired:
        """Return where the streak has reached the patience."""
        patience = np.asarray(threshold)
        fired: Fired = (scores.astype(np.float64) >= patience) & (patience >= 1)
        return fired


def next_streak(
    logits: NDArray[np.float32], answers: NDArray[np.int64], streak: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return this layer's answers and streaks from those of the layer before.

    Args:
        logits: [U, C] float32.
        answers: [U] int64, the argmax one layer ago; -1 before layer 1.
        streak: [U] int64, the streak one layer ago; 0 before layer 1.

    Returns:
        [U] argmax now (-1 where the logits have no finite answer) and [U] streak now.
    """
    now = np.where(answerable(logits), logits.argmax(axis=-1), -1)
    same = (now == answers) & (now >= 0)
    return now, np.where(same, streak + 1, 0)
