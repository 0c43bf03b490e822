"""Regions in a JSON body: an .npz file, or arrays, in base64."""

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from exeunt.engine.inputs import RegionsError
from exeunt.server.base64_text import decode_base64

Axis = Annotated[int, Field(strict=True, ge=0)]
Side = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_LITTLE_ENDIAN = {"float16": "<f2", "float32": "<f4"}


class ArrayBody(BaseModel):
    """An array: its numbers one after another, the last axis first, little-endian."""

    model_config = ConfigDict(extra="forbid")

    dtype: Literal["float16", "float32"]
    shape: list[Axis] = Field(max_length=4)
    data: str = Field(description="In base64.")


class RegionsBody(BaseModel):
    """What a detector saw in one image, N regions, as arrays."""

    model_config = ConfigDict(extra="forbid")

    features: ArrayBody = Field(description="[N, numbers], as many as `GET /info` says.")
    boxes: ArrayBody = Field(
        description="[N, 4 | 6 | 7]: x1, y1, x2, y2, then width and height, then their product."
    )
    box_units: Literal["normalised", "pixels"] = Field(
        default="normalised", description="Of the image's width and height, or pixels."
    )
    conf: ArrayBody | None = Field(
        default=None,
        description="[N], the detector's confidences; with them, the surest regions are kept.",
    )
    width: Side | None = Field(default=None, description="Of the image, in pixels.")
    height: Side | None = Field(default=None, description="Of the image, in pixels.")


# Pydantic names the side of a union in an error's place; a client need not read it.
KINDS = frozenset({"an .npz file", "arrays", "several"})


def _kind(value: object) -> str | None:
    if isinstance(value, str):
        return "an .npz file"
    return "arrays" if isinstance(value, dict | RegionsBody) else None


def _kind_or_list(value: object) -> str | None:
    return "several" if isinstance(value, list) else _kind(value)


_One = Annotated[str, Tag("an .npz file")] | Annotated[RegionsBody, Tag("arrays")]
_EXPECTED = "expected an .npz file in base64, or an object with `features` and `boxes`"
RegionsField = Annotated[
    _One
    | Annotated[
        Annotated[
            list[
                Annotated[
                    _One,
                    Discriminator(
                        _kind, custom_error_type="regions", custom_error_message=_EXPECTED
                    ),
                ]
            ],
            Field(max_length=16),
        ],
        Tag("several"),
    ],
    Discriminator(_kind_or_list, custom_error_type="regions", custom_error_message=_EXPECTED),
]


def regions_of(field: str | RegionsBody | list[str | RegionsBody]) -> object:
    """Return what the engine takes: a file's content, a mapping of arrays, or a list of these.

    Raises:
        MalformedBody: the base64 is broken.
        RegionsError: an array's data do not fit its shape.
    """
    if isinstance(field, list):
        return [regions_of(one) for one in field]
    if isinstance(field, str):
        return decode_base64(field, "the regions' file")
    given: dict[str, object] = {
        "features": _array("features", field.features),
        "boxes": _array("boxes", field.boxes),
        "box_units": field.box_units,
        "width": field.width,
        "height": field.height,
    }
    return given if field.conf is None else {**given, "conf": _array("conf", field.conf)}


def _array(name: str, body: ArrayBody) -> NDArray[Any]:
    content = decode_base64(body.data, f"`{name}` of the regions")
    dtype = np.dtype(_LITTLE_ENDIAN[body.dtype])
    expected = math.prod(body.shape) * dtype.itemsize
    if len(content) != expected:
        raise RegionsError(
            f"the regions' `{name}` holds {len(content)} bytes, expected {expected} for"
            f" {body.shape} of {body.dtype}: send all of it, and no more"
        )
    return np.frombuffer(content, dtype=dtype).reshape(body.shape)
