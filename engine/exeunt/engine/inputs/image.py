"""Images: decoding under caps, and the settings of the model applied."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from exeunt.engine.bundle.inputs import ImageSpec
from exeunt.engine.errors import ImageError
from exeunt.engine.inputs.jpeg import check_jpeg
from exeunt.engine.inputs.limits import InputLimits

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_JPEG = b"\xff\xd8"
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
_RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode_image(content: bytes, limits: InputLimits) -> Image.Image:
    """Decode an image file into 8-bit RGB, upright.

    Size and kind are read from the header and checked before a pixel is decoded. Transparent
    pixels are laid over white.

    Args:
        content: a PNG, JPEG, WebP, BMP or single-frame GIF file.
        limits: the caps on bytes, pixels and sides.

    Raises:
        ImageError: it is no such file, is truncated, animated, empty, too large, or in a colour
            model (CMYK, 16 bits a channel) that has no one way to become 8-bit RGB.
    """
    if not content:
        raise ImageError("the image is empty: send the bytes of a PNG or JPEG file")
    if len(content) > limits.max_image_bytes:
        raise ImageError(
            f"the image has {len(content)} bytes, at most {limits.max_image_bytes} are taken:"
            " send a smaller file"
        )
    if content.startswith(_JPEG):
        check_jpeg(content)
    return _readable(lambda: Image.open(io.BytesIO(content), formats=FORMATS), limits)


def checked_image(image: Image.Image, limits: InputLimits) -> Image.Image:
    """Return a PIL image in 8-bit RGB, upright; see `decode_image`, whose caps it is held to."""
    return _readable(lambda: image, limits)


def _readable(open_image: Callable[[], Image.Image], limits: InputLimits) -> Image.Image:
    try:
        image = open_image()
        _check_header(image, limits)
        image.load()
        return to_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(
            f"the image cannot be recognised: expected one of {', '.join(FORMATS)}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"the image is over {limits.max_image_pixels} pixels: send a smaller one"
        ) from None
    except Exception as error:  # damaged files raise many types, none of them documented
        raise ImageError(
            f"the image is damaged or truncated ({error}): send the whole file"
        ) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image upright and in 8-bit RGB, transparent pixels over white.

    Raises:
        ImageError: its colour model is not one of 8-bit grey, palette or RGB, with or without
            transparency.
    """
    _check_mode(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "RGB":
        return upright
    if "A" in upright.getbands() or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return upright.convert("RGB")


def _check_header(image: Image.Image, limits: InputLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"the image has {width} x {height} pixels: send one with some")
    if width * height > limits.max_image_pixels or max(width, height) > limits.max_image_side:
        raise ImageError(
            f"the image has {width} x {height} pixels, at most {limits.max_image_pixels} in all and"
            f" {limits.max_image_side} a side are taken: scale it down"
        )
    # `is_animated` looks for a second frame, `n_frames` would count a million of them. The further
    # pictures of a camera's multi-picture JPEG are no animation: its first one is the photograph.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ImageError("the image is animated: send one frame as a PNG or JPEG file")
    # Pillow reads such colours as 8-bit RGB without a word and drops the lower half of every value.
    if image.format == "PNG" and any(
        str(tile[3]).endswith(";16B") for tile in getattr(image, "tile", ())
    ):
        raise ImageError("the image has 16 bits a channel: convert it to 8-bit RGB or grey")
    _check_mode(image)


def _check_mode(image: Image.Image) -> None:
    if image.mode not in _MODES:
        raise ImageError(
            f"the image is in colour mode {image.mode}: convert it to 8-bit RGB or grey"
        )


class ImageProcessor:
    """Turns RGB images into the tensor of a bundle's settings."""

    def __init__(self, spec: ImageSpec) -> None:
        self._size = (spec.size[1], spec.size[0])  # Pillow's order: width, height
        self._resample = _RESAMPLE[spec.resample]
        scale = np.full(3, spec.scale, dtype=np.float32)
        std = np.asarray(spec.std, dtype=np.float32)
        self._gain = (scale / std).reshape(3, 1, 1)
        self._offset = (-np.asarray(spec.mean, dtype=np.float32) / std).reshape(3, 1, 1)

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """Return float32 [3, H, W]: (value * scale - mean) / std of the resized RGB image."""
        sized = image if image.size == self._size else image.resize(self._size, self._resample)
        pixels = np.asarray(sized, dtype=np.float32).transpose(2, 0, 1)
        return np.ascontiguousarray(pixels * self._gain + self._offset)
