"""Cosine similarity of a layer's output with its input."""

from exeunt.kernels.cosine.reference import cosine

__all__ = ["cosine"]
