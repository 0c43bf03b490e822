"""Inputs: from an image or regions, and a text, to the raw tensors that a bundle's entry takes."""

from exeunt.engine.inputs.image import ImageProcessor, decode_image
from exeunt.engine.inputs.limits import InputLimits
from exeunt.engine.inputs.prepare import SamplePreparer
from exeunt.engine.inputs.regions import RegionsError, RegionsProcessor
from exeunt.engine.inputs.tensors import TensorChecker
from exeunt.engine.inputs.text import TextProcessor

__all__ = [
    "ImageProcessor",
    "InputLimits",
    "RegionsError",
    "RegionsProcessor",
    "SamplePreparer",
    "TensorChecker",
    "TextProcessor",
    "decode_image",
]
