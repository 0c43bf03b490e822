"""Length buckets: raw tensors padded, so that samples of nearly one size share batches."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import TensorError

Array = NDArray[Any]


class Buckets:
    """Pads tensors with zeros as the manifest's `buckets` ask; a zero in a mask is padding."""

    def __init__(self, manifest: Manifest) -> None:
        self._buckets = manifest.buckets
        # Axes count from the end, so that samples and batches of them are padded alike.
        self._axes = {
            name: {
                place - len(spec.shape): size
                for place, size in enumerate(spec.shape)
                if isinstance(size, str) and size in manifest.buckets
            }
            for name, spec in manifest.tensors.items()
        }

    def __call__(self, tensors: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """Return the tensors, those that stop short of a bucket's end as padded copies.

        Args:
            tensors: checked, with or without a sample axis.
            sizes: of the samples, by symbolic name.

        Raises:
            TensorError: a size is larger than its bucket allows.
        """
        wanted = {}
        for name, bucket in self._buckets.items():
            if sizes[name] > bucket.most:
                raise TensorError(
                    f"the sample's size {name} is {sizes[name]}, this model takes {bucket.most}:"
                    " shorten it"
                )
            wanted[name] = bucket.padded(sizes[name])
        return {name: self._padded(name, array, wanted) for name, array in tensors.items()}

    def _padded(self, name: str, array: Array, wanted: Mapping[str, int]) -> Array:
        shape = list(array.shape)
        for axis, size in self._axes[name].items():
            shape[axis] = wanted[size]
        if tuple(shape) == array.shape:
            return array
        padded = np.zeros(shape, dtype=array.dtype)
        padded[tuple(slice(size) for size in array.shape)] = array
        return padded
