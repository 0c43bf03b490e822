"""`preprocessor_config.json`: how an image becomes `pixel_values`, where the engine can do it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from exeunt.engine.bundle.inputs import ImageSpec
from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import invalid, read_json

PREPROCESSOR_FILE = "preprocessor_config.json"
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers

Channels = tuple[float, float, float]


class _Preprocessor(BaseModel):
    """The keys that are read, with the defaults of most processors. size: in pixels."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    do_resize: bool = True
    do_center_crop: bool = False
    do_rescale: bool = True
    do_normalize: bool = True
    size: dict[str, int] | int | None = None
    resample: int = 3
    rescale_factor: float = 1 / 255
    image_mean: Channels | None = None
    image_std: Channels | None = None


def resized_image(source: Path, size: int, *, mean: Channels, std: Channels) -> ImageSpec:
    """Return the settings of a processor that brings images to a square, whatever their sides.

    Args:
        source: the checkpoint.
        size: pixels a side that the model takes.
        mean: of each channel, where the checkpoint does not say.
        std: the same.

    Raises:
        ExportError: the file is damaged, or says something that the engine does not do.
    """
    file = source / PREPROCESSOR_FILE
    content: Any = read_json(file) if file.is_file() else {}
    try:
        settings = _Preprocessor.model_validate(content)
    except ValidationError as error:
        raise invalid(file, error) from None
    sides = {"height": size, "width": size}
    found = settings.size
    if isinstance(found, int):
        found = {"height": found, "width": found}
    if found not in (None, sides) or settings.do_center_crop or not settings.do_resize:
        raise ExportError(
            f"{file} asks for size {settings.size}, do_resize {settings.do_resize} and"
            f" do_center_crop {settings.do_center_crop}: the model takes images brought to"
            f" {size} x {size} pixels without cropping"
        )
    if settings.resample not in RESAMPLE:
        raise ExportError(f"{file} says resample {settings.resample}: expected {RESAMPLE}")
    plain = not settings.do_normalize
    return ImageSpec.model_validate(
        {
            "size": (size, size),
            "resample": RESAMPLE[settings.resample],
            "scale": settings.rescale_factor if settings.do_rescale else 1.0,
            "mean": (0.0,) * 3 if plain else settings.image_mean or mean,
            "std": (1.0,) * 3 if plain else settings.image_std or std,
        }
    )
