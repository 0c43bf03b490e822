"""Blank samples to warm the segments up with."""

from collections.abc import Mapping, Sequence

import numpy as np

from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.manifest import Manifest

Sizes = Mapping[str, Sequence[int]]  # by the name of a symbolic size


def warm_up_samples(manifest: Manifest, sizes: Sizes) -> list[dict[str, Array]]:
    """Return blank samples' raw tensors (no sample axis), the smallest shapes first.

    Args:
        manifest: names the tensors; masks are all valid, everything else is 0.
        sizes: those to use for each symbolic size; the k-th sample takes the k-th of each, and the
            last where there are fewer. A bucket's own sizes, or a text's, every multiple of its
            padding, serve for those that are not given.

    Returns:
        As many samples as the longest list of sizes; none where a size is unknown.
    """
    symbols = {
        dim for spec in manifest.tensors.values() for dim in spec.shape if isinstance(dim, str)
    }
    known = {
        name: sizes.get(name) or _bucket_sizes(manifest, name) or _text_sizes(manifest)
        for name in symbols
    }
    if not all(known.values()):
        return []
    count = max((len(values) for values in known.values()), default=1)
    return [
        _blank(manifest, {name: values[min(k, len(values) - 1)] for name, values in known.items()})
        for k in range(count)
    ]


def _bucket_sizes(manifest: Manifest, name: str) -> Sequence[int]:
    bucket = manifest.buckets.get(name)
    return bucket.sizes() if bucket else ()


def _text_sizes(manifest: Manifest) -> Sequence[int]:
    text = manifest.inputs.text
    if text is None:
        return ()
    step = min(text.pad_to_multiple, text.max_tokens)
    return [*range(step, text.max_tokens, step), text.max_tokens]


def _blank(manifest: Manifest, sizes: Mapping[str, int]) -> dict[str, Array]:
    rows = max(lane.rows for lane in manifest.lanes)
    text, regions = manifest.inputs.text, manifest.inputs.regions
    masks = {spec.mask for spec in (text, regions) if spec is not None}
    tensors = {}
    for name, spec in manifest.tensors.items():
        own = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape)
        shape = ((rows,) if spec.per == "row" else ()) + own
        is_mask = name in masks if text else name.endswith("mask")
        tensors[name] = np.full(shape, 1 if is_mask else 0, dtype=spec.dtype)
    return tensors
