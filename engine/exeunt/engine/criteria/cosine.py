"""The cosine criterion."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from exeunt.engine.criteria.base import Evidence, Fired, Scores, Threshold, required
from exeunt.kernels.cosine import cosine
from exeunt.kernels.cosine.reference import Reduction


@dataclass(frozen=True)
class Cosine:
    """Leave when a layer hardly changes its input: cos(h_l, h_(l-1)) > theta.

    Layer 1 is compared with the embeddings. Padding is masked and each unit is judged alone.

    Reference: MuE, Eq. (7).
    """

    reduction: Reduction = "flattened"
    reads: Literal["hidden"] = "hidden"

    def score(self, evidence: Evidence) -> Scores:
        """Return the cosine of the layer's output with its input, in [-1, 1]."""
        before, after = required(evidence.before), required(evidence.after)
        return cosine(before, after, evidence.valid, self.reduction)

    def fires(self, scores: Scores, threshold: Threshold) -> Fired:
        """Return where the similarity is strictly above the threshold."""
        return scores.astype(np.float64) > threshold
