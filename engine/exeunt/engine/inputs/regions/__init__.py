"""Regions: what a detector saw in an image, in place of the image itself."""

from exeunt.engine.inputs.regions.error import RegionsError
from exeunt.engine.inputs.regions.processor import RegionsProcessor

__all__ = ["RegionsError", "RegionsProcessor"]
