"""Caps on what a sample may bring, checked before memory is taken for it."""

from pydantic import Field

from exeunt.engine.bundle.tensors import Frozen


class InputLimits(Frozen):
    """Caps on images, texts and regions.

    max_image_bytes: of the encoded file. max_image_pixels: width times height, read from the
    header before anything is decoded. max_image_side: pixels. max_text_chars: characters.
    max_regions_bytes: of a file of regions, and of their arrays once unpacked.
    """

    max_image_bytes: int = Field(default=16 * 2**20, ge=1)
    max_image_pixels: int = Field(default=24_000_000, ge=1)
    max_image_side: int = Field(default=16_384, ge=1)
    max_text_chars: int = Field(default=4_096, ge=1)
    max_regions_bytes: int = Field(default=16 * 2**20, ge=1)
