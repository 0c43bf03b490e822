"""Raw tensors: names, dtypes and shapes checked against the manifest, sizes brought to buckets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.tensors import TensorSpec, numpy_dtype
from exeunt.engine.errors import TensorError
from exeunt.engine.inputs.buckets import Buckets

Array = NDArray[Any]
MAX_DIM = 1 << 20


class TensorChecker:
    """Checks raw tensors: those of a single sample, or a batch with a leading sample axis.

    What it returns is padded to the manifest's buckets.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._specs = manifest.tensors
        self._buckets = Buckets(manifest)
        sizes = {lane.rows for lane in manifest.lanes}
        self._rows = max(sizes)

    def batch(self, tensors: Mapping[str, object]) -> tuple[int, dict[str, Array]]:
        """Return the number of samples and the tensors as C-contiguous arrays [N, ...].

        Raises:
            TensorError: a tensor is missing, unknown, or of another dtype or shape than the
                manifest's; or the leading axes differ or are 0.
        """
        arrays = self._named(tensors)
        counts = {name: array.shape[0] if array.ndim else -1 for name, array in arrays.items()}
        if len(set(counts.values())) != 1 or -1 in counts.values():
            raise TensorError(
                f"every tensor needs the same leading sample axis, found lengths {counts}"
            )
        count = next(iter(counts.values()))
        if count == 0:
            raise TensorError("the tensors hold no samples: send at least one")
        return count, self._check(arrays, leading=1)

    def sample(self, tensors: Mapping[str, object]) -> dict[str, Array]:
        """Return one sample's tensors (no sample axis) as C-contiguous arrays; see `batch`."""
        return self._check(self._named(tensors), leading=0)

    def _named(self, tensors: Mapping[str, object]) -> dict[str, Array]:
        if unknown := sorted(set(tensors) - set(self._specs)):
            raise TensorError(f"unknown tensors {unknown}: the bundle takes {sorted(self._specs)}")
        if missing := sorted(set(self._specs) - set(tensors)):
            raise TensorError(f"tensors {missing} are missing: the bundle needs them")
        return {name: _array(name, tensors[name]) for name in self._specs}

    def _check(self, arrays: dict[str, Array], leading: int) -> dict[str, Array]:
        sizes: dict[str, int] = {}
        checked = {}
        for name, array in arrays.items():
            spec = self._specs[name]
            if array.dtype != numpy_dtype(spec.dtype):
                raise TensorError(f"tensor {name!r} is {array.dtype}, expected {spec.dtype}")
            self._check_shape(name, spec, array.shape[leading:], sizes)
            checked[name] = np.asarray(array, order="C")
        return self._buckets(checked, sizes)

    def _check_shape(
        self, name: str, spec: TensorSpec, shape: tuple[int, ...], sizes: dict[str, int]
    ) -> None:
        expected = ((self._rows,) if spec.per == "row" else ()) + spec.shape
        fits = len(shape) == len(expected)
        for found, wanted in zip(shape, expected, strict=False):
            if isinstance(wanted, str):
                wanted = sizes.setdefault(wanted, found)
            fits = fits and found == wanted and 1 <= found <= MAX_DIM
        if not fits:
            raise TensorError(
                f"tensor {name!r} has shape {list(shape)} a sample, expected {list(expected)}"
                + (f" with {sizes}" if sizes else "")
            )


def _array(name: str, value: object) -> Array:
    try:
        return np.asarray(value)
    except ValueError as error:  # a nested list whose parts differ in length
        raise TensorError(f"tensor {name!r} is no array: {error}") from None
