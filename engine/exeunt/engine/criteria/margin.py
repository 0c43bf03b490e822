"""The margin criterion."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from exeunt.engine.criteria.base import Evidence, Fired, Scores, Threshold, required
from exeunt.kernels.margin import margin


@dataclass(frozen=True)
class Margin:
    """Leave when the two best answers lie far apart: p1 - p2 > theta.

    Reference: CALM's softmax response, section 3.5.
    """

    reads: Literal["logits"] = "logits"

    def score(self, evidence: Evidence) -> Scores:
        """Return p1 - p2, in [0, 1]."""
        return margin(required(evidence.logits))

    def fires(self, scores: Scores, threshold: Threshold) -> Fired:
        """Return where the gap is strictly above the threshold."""
        return scores.astype(np.float64) > threshold
