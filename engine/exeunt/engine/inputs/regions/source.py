"""What a request brings as regions: a file's content, or arrays."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.inputs.regions.boxes import Units
from exeunt.engine.inputs.regions.error import HOW, RegionsError
from exeunt.engine.inputs.regions.npz import read_npz

Array = NDArray[Any]

_IN_FILES = ("features", "norm_bb", "bbox", "conf", "image_w", "image_h")
_FIELDS = ("features", "boxes", "box_units", "conf", "width", "height")


@dataclass(frozen=True)
class Regions:
    """Regions as they came, all of them finite float32.

    features: [N, F]. boxes: [N, columns]. conf: [N], or None. image_size: width and height in
    pixels, or None.
    """

    features: Array
    boxes: Array
    units: Units
    conf: Array | None
    image_size: tuple[float, float] | None


def read_regions(value: object, max_bytes: int) -> Regions:
    """Return the regions that a request brings.

    Args:
        value: the content of an .npz file (`features`, `norm_bb` or, in pixels, `bbox`; where they
            are there `conf`, `image_w`, `image_h`), or a mapping with the arrays `features` [N, F]
            and `boxes` [N, columns], and maybe `box_units`, `conf` [N], `width`, `height`.
        max_bytes: of a file, and of the arrays.

    Raises:
        RegionsError: something is missing, unknown, not finite, too large, or of the wrong dtype
            or shape.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return _from_file(read_npz(bytes(value), _IN_FILES, max_bytes))
    if isinstance(value, Mapping):
        return _from_fields(value, max_bytes)
    raise RegionsError(
        f"the regions are of type {type(value).__name__}: give the bytes of an .npz file, or a"
        " mapping with `features` and `boxes`"
    )


def _from_file(arrays: Mapping[str, Array]) -> Regions:
    boxes = "norm_bb" if "norm_bb" in arrays else "bbox"
    if missing := [name for name in ("features", boxes) if name not in arrays]:
        names = ["norm_bb" if name == "bbox" else name for name in missing]
        raise RegionsError(
            f"the regions' file has no {names}, expected `features`, `norm_bb` (or `bbox`, in"
            f" pixels) and `conf`; {HOW}"
        )
    return Regions(
        features=_numbers("features", arrays["features"], axes=2),
        boxes=_numbers(boxes, arrays[boxes], axes=2),
        units="normalised" if boxes == "norm_bb" else "pixels",
        conf=_numbers("conf", arrays["conf"], axes=1) if "conf" in arrays else None,
        image_size=_size(*(arrays.get(name) for name in ("image_w", "image_h"))),
    )


def _from_fields(fields: Mapping[str, object], max_bytes: int) -> Regions:
    given = {str(name): value for name, value in fields.items() if value is not None}
    if unknown := sorted(set(given) - set(_FIELDS)):
        raise RegionsError(f"the regions have {unknown}, expected some of {list(_FIELDS)}")
    if missing := sorted({"features", "boxes"} - set(given)):
        raise RegionsError(f"the regions lack {missing}; {HOW}")
    arrays = {
        name: np.asarray(given[name]) for name in ("features", "boxes", "conf") if name in given
    }
    if (size := sum(array.nbytes for array in arrays.values())) > max_bytes:
        raise RegionsError(
            f"the regions have {size} bytes, at most {max_bytes} are taken: keep fewer, in float16"
        )
    units = given.get("box_units", "normalised")
    if units not in ("normalised", "pixels"):
        raise RegionsError(f"`box_units` is {str(units)[:80]!r}, expected normalised or pixels")
    return Regions(
        features=_numbers("features", arrays["features"], axes=2),
        boxes=_numbers("boxes", arrays["boxes"], axes=2),
        units="pixels" if units == "pixels" else "normalised",
        conf=_numbers("conf", arrays["conf"], axes=1) if "conf" in arrays else None,
        image_size=_size(given.get("width"), given.get("height")),
    )


def _numbers(name: str, array: Array, axes: int) -> Array:
    """Return an array as float32 once it is known to be sound."""
    if array.dtype.kind != "f" or array.dtype.itemsize > 4:
        raise RegionsError(
            f"the regions' `{name}` is {array.dtype}, expected float16 or float32: convert it"
        )
    if array.ndim != axes:
        raise RegionsError(
            f"the regions' `{name}` has the shape {list(array.shape)}, expected {axes} axes, one"
            " row a region"
        )
    finite = np.isfinite(array)
    if not finite.all():
        place = [int(number) for number in np.argwhere(~finite)[0]]
        raise RegionsError(
            f"the regions' `{name}` holds {array[tuple(place)]} at {place}, expected finite"
            " numbers: run the detector again, or drop that region"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _size(width: object, height: object) -> tuple[float, float] | None:
    if width is None and height is None:
        return None
    return _pixels("width", width), _pixels("height", height)


def _pixels(name: str, value: object) -> float:
    number = (
        value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value
    )
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise RegionsError(f"the image's {name} is no number: send both sides in pixels, or none")
    if not (math.isfinite(number) and 0 < number < 2**31):
        raise RegionsError(f"the image's {name} is {number}, expected a number of pixels above 0")
    return float(number)
