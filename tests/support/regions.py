"""Bundles that take a detector's regions in place of an image, and what a detector writes."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import Manifest
from tests.support.manifests import Record, manifest, segment, single_stream_parts, tensor

Array = NDArray[Any]
FEATURES = 6
BUCKET = 4


def regions_parts(
    *, rows: int = 1, columns: int = 7, units: str = "normalised", most: int = 40
) -> Record:
    """Return the parts of `taking_regions`, for tests that change some of them."""
    parts = single_stream_parts(with_inputs=True)
    per = "row" if rows > 1 else "sample"
    parts["tensors"] = {
        "input_ids": tensor("int64", "T"),
        "attention_mask": tensor("int64", "T"),
        "region_features": tensor("float32", "R", FEATURES, per=per),
        "region_boxes": tensor("float32", "R", columns, per=per),
        "region_mask": tensor("int64", "R", per=per),
    }
    reads = [f"input.{name}" for name in parts["tensors"]]
    parts["segments"]["embed"] = segment("entry", reads, ["hidden", "mask"])
    parts["lanes"][0] |= {"rows": rows, "unit": "group" if rows > 1 else "row"}
    parts["buckets"] = {"R": {"multiple": BUCKET, "most": most}}
    parts["inputs"] = {
        "text": parts["inputs"]["text"],
        "regions": {
            "feature_size": FEATURES,
            "box_columns": columns,
            "box_units": units,
            "max_regions": most,
        },
    }
    return parts


def taking_regions(**options: Any) -> Manifest:
    """Return one `joint` lane for a text and regions of six numbers.

    rows: of a sample, each with regions of its own where above 1. columns, units: of the boxes.
    most: regions of one image.
    """
    return manifest("regions", regions_parts(**options))


def detected(count: int, seed: int = 0, dtype: str = "float16") -> dict[str, Array]:
    """Return what UNITER's feature files hold of an image, the surest first, over .2 all."""
    random = np.random.default_rng(seed)
    first, second = (random.random((count, 2)) / 2 for _ in range(2))
    boxes = np.concatenate([first, first + second, second], axis=1)
    conf = np.sort(random.uniform(0.21, 1, count))[::-1]
    arrays = {"features": random.random((count, FEATURES)), "norm_bb": boxes, "conf": conf}
    return {name: array.astype(dtype) for name, array in arrays.items()}


def npz(**arrays: Any) -> bytes:
    """Return the content of an .npz file, compressed as UNITER's are."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()
