"""The largest softmax probability of a row of logits."""

from exeunt.kernels.confidence.reference import confidence, softmax

__all__ = ["confidence", "softmax"]
