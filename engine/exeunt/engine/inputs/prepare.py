"""From a request's mapping to raw tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ImageError, InputError
from exeunt.engine.inputs.image import ImageProcessor, checked_image, decode_image
from exeunt.engine.inputs.limits import InputLimits
from exeunt.engine.inputs.regions import RegionsProcessor
from exeunt.engine.inputs.regions.error import HOW
from exeunt.engine.inputs.text import TextProcessor

Array = NDArray[Any]


class SamplePreparer:
    """Turns samples (`image`, `images`, `regions`, `text`) into the bundle's raw tensors.

    Safe to call from many threads at once.
    """

    def __init__(self, bundle: Bundle, limits: InputLimits) -> None:
        spec = bundle.manifest.inputs
        self._limits = limits
        self._image = ImageProcessor(spec.image) if spec.image else None
        self._image_spec = spec.image
        self._text_spec = spec.text
        self._text = (
            TextProcessor(spec.text, bundle.path(spec.text.tokenizer), limits)
            if spec.text
            else None
        )
        self._regions = (
            RegionsProcessor(bundle.manifest, spec.regions, limits) if spec.regions else None
        )
        filled = {spec.image.tensor} if spec.image else set()
        filled |= self._regions.tensors if self._regions else set()
        if spec.text:
            filled |= {
                spec.text.ids,
                spec.text.mask,
                *([spec.text.types] if spec.text.types else []),
            }
        self._unfilled = sorted(set(bundle.manifest.tensors) - filled)
        self._takes = [
            *([("images" if spec.image.count > 1 else "image")] if spec.image else []),
            *(["regions"] if spec.regions else []),
            *(["text"] if spec.text else []),
        ]

    def __call__(self, sample: Mapping[str, object]) -> dict[str, Array]:
        """Return the raw tensors of one sample, without a sample axis.

        Args:
            sample: `image` (file content as bytes, or a PIL image) or `images` (a list of them),
                `regions` (see `read_regions`; a list of them where a sample has several images)
                and `text`, as the manifest's `inputs` ask; `task` is read elsewhere.

        Raises:
            InputError: a key is missing, unknown or of the wrong kind.
            ImageError, RegionsError, TextError: the image, the regions or the text cannot be used.
        """
        if not isinstance(sample, Mapping):
            raise InputError(f"a sample is a mapping, found a {type(sample).__name__}")
        if self._unfilled:
            raise InputError(
                f"this bundle takes raw tensors only: nothing in its manifest makes"
                f" {self._unfilled} from an image, regions or a text; use `Engine.run`"
            )
        self._check_keys(
            {str(key) for key, value in sample.items() if value is not None and key != "task"}
        )
        tensors: dict[str, Array] = {}
        if self._text:
            tensors |= self._text(sample["text"])  # the cheaper check first
        if self._regions:
            tensors |= self._regions(sample["regions"])
        if self._image and self._image_spec:
            tensors[self._image_spec.tensor] = self._pixels(sample)
        return tensors

    def _check_keys(self, given: set[str]) -> None:
        if not self._regions and "regions" in given:
            raise InputError(f"this model takes no `regions`: send {self._takes}")
        if self._regions and not self._image and given & {"image", "images"}:
            raise InputError(
                "this model needs a detector's features and boxes in place of an image: send"
                f" `regions`; {HOW}"
            )
        if unknown := sorted(given - set(self._takes)):
            raise InputError(f"the sample has {unknown}, this model takes {self._takes}")
        if missing := sorted(set(self._takes) - given):
            how = f"; {HOW}" if "regions" in missing else ""
            raise InputError(f"the sample lacks {missing}, this model needs {self._takes}{how}")

    def _pixels(self, sample: Mapping[str, object]) -> Array:
        assert self._image is not None, "only called where the bundle takes images"
        assert self._image_spec is not None, "only called where the bundle takes images"
        count = self._image_spec.count
        if count == 1:
            return self._image(self._decode(sample["image"]))
        images = sample["images"]
        if not isinstance(images, list | tuple) or len(images) != count:
            raise InputError(f"`images` must be a list of {count} images")
        return np.stack([self._image(self._decode(image)) for image in images])

    def _decode(self, image: object) -> Image.Image:
        if isinstance(image, Image.Image):
            return checked_image(image, self._limits)
        if isinstance(image, bytes | bytearray | memoryview):
            return decode_image(bytes(image), self._limits)
        raise ImageError(
            f"the image is of type {type(image).__name__}: give the bytes of a file, or a PIL image"
        )
