"""The confidence criterion."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from exeunt.engine.criteria.base import Evidence, Fired, Scores, Threshold, required
from exeunt.kernels.confidence import confidence


@dataclass(frozen=True)
class Confidence:
    """Leave when the largest probability reaches theta: max softmax(z / T_l) >= theta.

    temperature: T_l > 0, one for each layer; with a single one it serves every layer.

    Reference: the maximum-probability rule of BranchyNet's successors, with RightTool's
    temperature for each exit.
    """

    temperature: tuple[float, ...] = (1.0,)
    reads: Literal["logits"] = "logits"

    def score(self, evidence: Evidence) -> Scores:
        """Return the largest probability, in [1 / C, 1]."""
        place = min(evidence.layer, len(self.temperature)) - 1
        return confidence(required(evidence.logits), self.temperature[place])

    def fires(self, scores: Scores, threshold: Threshold) -> Fired:
        """Return where the largest probability is at least the threshold."""
        return scores.astype(np.float64) >= threshold
