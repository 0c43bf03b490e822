"""Exit criteria: pure functions from what a layer answered to a score for each decision unit.

A score never depends on the other units of a batch, nor on their order.
"""

from exeunt.engine.criteria.base import Criterion, Evidence
from exeunt.engine.criteria.confidence import Confidence
from exeunt.engine.criteria.cosine import Cosine
from exeunt.engine.criteria.entropy import Entropy
from exeunt.engine.criteria.margin import Margin
from exeunt.engine.criteria.patience import Patience, next_streak

__all__ = [
    "Confidence",
    "Cosine",
    "Criterion",
    "Entropy",
    "Evidence",
    "Margin",
    "Patience",
    "next_streak",
]
