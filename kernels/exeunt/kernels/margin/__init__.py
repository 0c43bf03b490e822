"""The gap between the two largest softmax probabilities of a row of logits."""

from exeunt.kernels.margin.reference import margin

__all__ = ["margin"]
