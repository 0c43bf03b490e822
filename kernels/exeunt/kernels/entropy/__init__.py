"""Entropy of the softmax of a row of logits."""

from exeunt.kernels.entropy.reference import entropy

__all__ = ["entropy"]
