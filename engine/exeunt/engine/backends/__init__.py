"""Backends: what runs a segment."""

from exeunt.engine.backends.base import Backend, LoadedSegment, Tensors
from exeunt.engine.backends.registry import BACKENDS, open_backend

__all__ = ["BACKENDS", "Backend", "LoadedSegment", "Tensors", "open_backend"]
