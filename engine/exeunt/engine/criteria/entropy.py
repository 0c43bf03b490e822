"""The entropy criterion."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from exeunt.engine.criteria.base import Evidence, Fired, Scores, Threshold, required
from exeunt.kernels.entropy import entropy


@dataclass(frozen=True)
class Entropy:
    """Leave when the entropy of the softmax of the logits is below F: H(z) < F, in nats.

    normalized: divide by ln C, so that the score lies in [0, 1] whatever the number of answers.

    Reference: UNITER-MSD, Eq. (18); normalised as FastBERT's uncertainty.
    """

    normalized: bool = False
    reads: Literal["logits"] = "logits"

    def score(self, evidence: Evidence) -> Scores:
        """Return H(z), or H(z) / ln C, of [U, C] logits."""
        logits = required(evidence.logits)
        scores = entropy(logits)
        return scores / np.float32(math.log(logits.shape[-1])) if self.normalized else scores

    def fires(self, scores: Scores, threshold: Threshold) -> Fired:
        """Return where the entropy is strictly below the threshold."""
        return scores.astype(np.float64) < threshold
