"""Random raw tensors for a manifest."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import Manifest

Tensors = dict[str, NDArray[Any]]


def random_tensors(
    manifest: Manifest, count: int, sizes: Mapping[str, int] | None = None, seed: int = 0
) -> Tensors:
    """Return `count` samples with the given symbolic sizes (5 where none is given)."""
    random = np.random.default_rng(seed)
    rows = max(lane.rows for lane in manifest.lanes)
    tensors: Tensors = {}
    for name, spec in manifest.tensors.items():
        own = tuple(
            (sizes or {}).get(dim, 5) if isinstance(dim, str) else dim for dim in spec.shape
        )
        shape = (count, *((rows,) if spec.per == "row" else ()), *own)
        if spec.dtype.startswith("float"):
            tensors[name] = random.normal(size=shape).astype(spec.dtype)
        else:
            tensors[name] = random.integers(0, 2 if spec.dtype == "bool" else 100, shape).astype(
                spec.dtype
            )
    return tensors


def one_sample(tensors: Tensors, place: int) -> Tensors:
    """Return one of the samples, its sample axis kept."""
    return {name: array[place : place + 1] for name, array in tensors.items()}
