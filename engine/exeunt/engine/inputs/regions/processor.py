"""From a detector's regions to the tensors of a bundle's settings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.inputs import RegionsSpec
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.tensors import numpy_dtype
from exeunt.engine.errors import BundleError
from exeunt.engine.inputs.limits import InputLimits
from exeunt.engine.inputs.regions.boxes import arranged
from exeunt.engine.inputs.regions.choice import chosen
from exeunt.engine.inputs.regions.error import RegionsError
from exeunt.engine.inputs.regions.source import Regions, read_regions

Array = NDArray[Any]


class RegionsProcessor:
    """Turns a sample's regions into features, boxes and a mask of the valid ones.

    Raises:
        BundleError: the manifest's tensors do not fit its settings of regions.
    """

    def __init__(self, manifest: Manifest, spec: RegionsSpec, limits: InputLimits) -> None:
        self._spec = spec
        self._max_bytes = limits.max_regions_bytes
        self._mask_dtype, per = _checked(manifest, spec)
        # A sample of several rows, as a pair of images, has regions for each.
        self._rows = max(lane.rows for lane in manifest.lanes) if per == "row" else 1

    @property
    def tensors(self) -> set[str]:
        """The raw tensors that are made of regions."""
        return {self._spec.features, self._spec.boxes, self._spec.mask}

    def __call__(self, value: object) -> dict[str, Array]:
        """Return float32 [R, F] features and [R, columns] boxes, and the mask [R].

        In a bundle whose regions are tensors of a row, each has an axis of rows before these, and R
        is the most that one of them has; the mask is 0 beyond a row's own.

        Args:
            value: what `read_regions` takes; a list of as many as a sample has rows.

        Raises:
            RegionsError: they cannot be used.
        """
        if self._rows == 1:
            return self._tensors([self._one(value)], 1)
        if not isinstance(value, list | tuple) or len(value) != self._rows:
            found = f"a list of {len(value)}" if isinstance(value, list | tuple) else "one"
            raise RegionsError(
                f"this model takes a list of {self._rows} `regions`, one for each image, found"
                f" {found}"
            )
        rows = []
        for place, one in enumerate(value):
            try:
                rows.append(self._one(one))
            except RegionsError as error:
                raise RegionsError(f"regions[{place}]: {error}") from None
        return self._tensors(rows, self._rows)

    def _one(self, value: object) -> tuple[Array, Array]:
        """Return the features and boxes of one image's regions."""
        spec = self._spec
        regions = read_regions(value, self._max_bytes)
        self._check(regions)
        boxes = arranged(
            regions.boxes, regions.units, regions.image_size, spec.box_columns, spec.box_units
        )
        if regions.conf is None:
            return regions.features, boxes
        kept = chosen(regions.conf, spec.max_regions)
        return regions.features[kept], boxes[kept]

    def _check(self, regions: Regions) -> None:
        count, size = regions.features.shape
        counts = {"features": count, "boxes": len(regions.boxes)}
        if regions.conf is not None:
            counts["conf"] = len(regions.conf)
        if len(set(counts.values())) > 1:
            raise RegionsError(f"the regions differ in number: {counts}; expected one row for each")
        if count == 0:
            raise RegionsError(
                "there are no regions: send at least one; the whole image may be one"
            )
        if size != self._spec.feature_size:
            raise RegionsError(
                f"the regions' features are {size} numbers each, this model takes"
                f" {self._spec.feature_size}: use the detector that it was trained with"
            )
        if regions.conf is None and count > self._spec.max_regions:
            raise RegionsError(
                f"there are {count} regions, this model takes {self._spec.max_regions}: send fewer,"
                " or `conf` too, by which the surest are kept"
            )

    def _tensors(self, rows: list[tuple[Array, Array]], count: int) -> dict[str, Array]:
        spec, most = self._spec, max(len(features) for features, _ in rows)
        features = np.zeros((count, most, spec.feature_size), dtype=np.float32)
        boxes = np.zeros((count, most, spec.box_columns), dtype=np.float32)
        mask = np.zeros((count, most), dtype=self._mask_dtype)
        for place, (own, layout) in enumerate(rows):
            features[place, : len(own)], boxes[place, : len(own)] = own, layout
            mask[place, : len(own)] = 1
        tensors = {spec.features: features, spec.boxes: boxes, spec.mask: mask}
        return tensors if self._rows > 1 else {name: array[0] for name, array in tensors.items()}


def _checked(manifest: Manifest, spec: RegionsSpec) -> tuple[np.dtype[Any], str]:
    """Return the mask's dtype, and whether the tensors are of a sample or a row."""
    widths = {spec.features: (spec.feature_size,), spec.boxes: (spec.box_columns,), spec.mask: ()}
    found = {name: manifest.tensors.get(name) for name in widths}
    known = {name: tensor for name, tensor in found.items() if tensor is not None}
    sizes = {(tensor.per, tensor.shape[:1]) for tensor in known.values()}
    fits = len(known) == len(widths) and len(sizes) == 1
    for name, tensor in known.items():
        first, rest = tensor.shape[:1], tensor.shape[1:]
        fits = fits and isinstance(next(iter(first), None), str) and rest == widths[name]
        fits = fits and (name == spec.mask or tensor.dtype == "float32")
    if not fits:
        shapes = {name: (tensor.dtype, *tensor.shape) for name, tensor in known.items()}
        raise BundleError(
            f"the manifest's `inputs.regions` needs the tensors {spec.features!r} float32 [R,"
            f" {spec.feature_size}], {spec.boxes!r} float32 [R, {spec.box_columns}] and"
            f" {spec.mask!r} [R] of one size R, found {shapes}: export the bundle again"
        )
    return numpy_dtype(known[spec.mask].dtype), known[spec.mask].per
