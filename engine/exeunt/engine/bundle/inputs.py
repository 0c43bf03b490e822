"""How images, regions and texts become raw tensors: the settings that travel with a bundle."""

from typing import Annotated, Literal

from pydantic import Field

from exeunt.engine.bundle.tensors import Frozen, Name

Pixels = Annotated[int, Field(ge=1)]
Deviation = Annotated[float, Field(gt=0)]


class ImageSpec(Frozen):
    """An image becomes `tensor`: resized, scaled, normalised, channels first.

    size: (height, width) in pixels. scale: what a value of 0 to 255 is multiplied with, before
    (value - mean) / std. count: images a sample has; with more than one the request says `images`.
    """

    tensor: Name = "pixel_values"
    size: tuple[Pixels, Pixels]
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[Deviation, Deviation, Deviation] = (1.0, 1.0, 1.0)
    count: int = Field(default=1, ge=1, le=16)


class TextSpec(Frozen):
    """A text becomes token ids and a mask of the valid ones.

    tokenizer: file in the bundle, as the `tokenizers` library writes it. max_tokens: a longer text
    is refused. pad_to_multiple: a text is padded to the next multiple, so that texts of nearly one
    length share batches; never to its batch mates' length, on which no answer may depend.
    """

    tokenizer: str = "tokenizer.json"
    ids: Name = "input_ids"
    mask: Name = "attention_mask"
    types: Name | None = None
    max_tokens: int = Field(ge=1, le=8192)
    pad_to_multiple: int = Field(default=8, ge=1)
    pad_id: int = Field(default=0, ge=0, lt=2**31)


BOX_LAYOUTS = {
    4: ("x1", "y1", "x2", "y2"),
    6: ("x1", "y1", "x2", "y2", "w", "h"),
    7: ("x1", "y1", "x2", "y2", "w", "h", "w*h"),
}


class RegionsSpec(Frozen):
    """What a detector saw, in place of the image: the tensors, and the layout of the boxes.

    features, boxes: float32 [R, feature_size] and [R, box_columns]; mask: [R], 0 where a region is
    padding; of a row where a sample has several images. box_columns: see `BOX_LAYOUTS`.
    box_units: `normalised` by the image's width and height, or `pixels`. max_regions: of one image.
    """

    features: Name = "region_features"
    boxes: Name = "region_boxes"
    mask: Name = "region_mask"
    feature_size: int = Field(ge=1)
    box_columns: Literal[4, 6, 7]
    box_units: Literal["normalised", "pixels"] = "normalised"
    max_regions: int = Field(ge=1, le=4096)


class ChoicesSpec(Frozen):
    """The answers of a multiple choice, tokenised like the text."""

    count: int = Field(ge=2, le=256)


class InputsSpec(Frozen):
    """The kinds of input that a request may bring; with none, only raw tensors are taken."""

    image: ImageSpec | None = None
    text: TextSpec | None = None
    regions: RegionsSpec | None = None
    choices: ChoicesSpec | None = None
