"""Boxes: from the columns and units that a detector writes to those that a model takes."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.inputs import BOX_LAYOUTS
from exeunt.engine.inputs.regions.error import RegionsError

Array = NDArray[Any]
Units = Literal["normalised", "pixels"]

OUTSIDE = 0.01  # of the image's side: how far a normalised box may stick out, by rounding


def arranged(
    boxes: Array, units: Units, image_size: tuple[float, float] | None, columns: int, wanted: Units
) -> Array:
    """Return the boxes as a model takes them, float32 [N, columns].

    Widths and heights are kept where they are given, else x2 - x1 and y2 - y1; the seventh column
    is always w * h. All of it is computed in float32.

    Args:
        boxes: float32 [N, 4 | 6 | 7]: x1, y1, x2, y2, then w, h, then w * h.
        units: of the boxes: of the image's width and height, or pixels.
        image_size: width and height in pixels; None when they are not known.
        columns: wanted: 4, 6 or 7.
        wanted: units.

    Raises:
        RegionsError: a box ends before it begins or lies outside the image, the layout is unknown,
            or the image's size is needed and is not known.
    """
    if boxes.shape[1] not in BOX_LAYOUTS:
        raise RegionsError(
            f"the regions' boxes have {boxes.shape[1]} columns, expected 4 (x1, y1, x2, y2), 6"
            " (then w, h) or 7 (then w*h)"
        )
    _check_corners(boxes)
    scale = np.ones(2, dtype=np.float32)
    if units != wanted:
        if image_size is None:
            raise RegionsError(
                f"the regions' boxes are {_named(units)} and this model takes them"
                f" {_named(wanted)}: send the image's `width` and `height` in pixels"
                " too (in a file, `image_w` and `image_h`)"
            )
        scale = np.array(image_size, dtype=np.float32)
    if units == "normalised":
        _check_inside(boxes, "divide it by the image's size, or say that boxes are in pixels")
    elif image_size is not None:
        relative = boxes[:, :4] / np.tile(np.array(image_size, dtype=np.float32), 2)
        _check_inside(relative, "send the width and height of the image that the detector saw")
    lengths = boxes[:, 4:6] if boxes.shape[1] >= 6 else boxes[:, 2:4] - boxes[:, :2]
    sides = np.concatenate([boxes[:, :4], lengths], axis=1)
    whole = np.tile(scale, 3)
    sides = sides / whole if wanted == "normalised" else sides * whole
    area = sides[:, 4:5] * sides[:, 5:6]
    return np.concatenate([sides, area], axis=1)[:, :columns]


def _check_corners(boxes: Array) -> None:
    for first, last, low, high in ((0, 2, "x1", "x2"), (1, 3, "y1", "y2")):
        wrong = np.flatnonzero(boxes[:, last] < boxes[:, first])
        if len(wrong):
            place = int(wrong[0])
            raise RegionsError(
                f"box {place} of the regions has {high} {boxes[place, last]:g} below {low}"
                f" {boxes[place, first]:g}: expected x1, y1, x2, y2 with x2 >= x1 and y2 >= y1"
            )


def _check_inside(boxes: Array, mend: str) -> None:
    corners = boxes[:, :4]
    outside = np.argwhere((corners < -OUTSIDE) | (corners > 1 + OUTSIDE))
    if len(outside):
        place, column = (int(number) for number in outside[0])
        raise RegionsError(
            f"box {place} of the regions has {('x1', 'y1', 'x2', 'y2')[column]}"
            f" {corners[place, column]:g} sides of the image, expected 0 to 1: {mend}"
        )


def _named(units: Units) -> str:
    return "in pixels" if units == "pixels" else "normalised by the image's width and height"
