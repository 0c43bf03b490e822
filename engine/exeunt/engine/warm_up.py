"""A sample to warm the segments up with."""

import numpy as np

from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.manifest import Manifest


def warm_up_tensors(manifest: Manifest) -> dict[str, Array] | None:
    """Return raw tensors of two blank samples, or None where no `inputs` say how large they are.

    Symbolic sizes take the text's padding; masks are all valid.
    """
    text = manifest.inputs.text
    if text is None and manifest.inputs.image is None:
        return None
    size = min(text.pad_to_multiple, text.max_tokens) if text else 1
    rows = max(lane.rows for lane in manifest.lanes)
    tensors = {}
    for name, spec in manifest.tensors.items():
        own = tuple(size if isinstance(dim, str) else dim for dim in spec.shape)
        shape = (2, *((rows,) if spec.per == "row" else ()), *own)
        value = 1 if text and name == text.mask else 0
        tensors[name] = np.full(shape, value, dtype=spec.dtype)
    return tensors
