"""Labelled samples to evaluate and to load a bundle with."""

from exeunt.bench.data.load import LabelledSample, load_data

__all__ = ["LabelledSample", "load_data"]
