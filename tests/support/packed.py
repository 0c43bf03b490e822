"""A single-stream manifest with both layouts, and NumPy layers that attend to valid tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import Manifest
from tests.support.manifests import Record, head, manifest, segment, single_stream_parts, tensor
from tests.support.scripted import Script

Array = NDArray[Any]
PACK = ("pack.gather", "pack.mask", "pack.scatter")
WIDTH = 16


def packed_parts(layers: int = 4, classes: int = 3, **packed: object) -> Record:
    """Return the parts of a single stream with packed layers; `packed` changes how."""
    parts = single_stream_parts(layers, classes)
    names = [f"packed.{layer:02}" for layer in range(1, layers + 1)]
    parts["segments"] |= {name: segment("layer", ["hidden", *PACK], ["hidden"]) for name in names}
    parts["lanes"][0]["packed"] = {
        "layers": names,
        "mask": "mask",
        "heads_read": "first",
        "batch_invariant": True,
        **packed,
    }
    return parts


def packed_stream(layers: int = 4, classes: int = 3, **packed: object) -> Manifest:
    """Return a validated single stream with packed layers."""
    return manifest("packed", packed_parts(layers, classes, **packed))


def attending(heads_read: str = "first") -> tuple[Manifest, Mapping[str, Script]]:
    """Return a stream whose layers mix the valid tokens of a row, in both layouts.

    Its tokens are the raw input itself, its mask says which are valid; what a padded token holds
    must not matter, so the entry makes it NaN.
    """
    parts = packed_parts(layers=3, heads_read=heads_read)
    parts["tensors"] = {"tokens": tensor("float32", "T", WIDTH), "mask": tensor("int64", "T")}
    parts["segments"]["embed"] = segment(
        "entry", ["input.tokens", "input.mask"], ["hidden", "mask"]
    )
    reads = ["hidden"] if heads_read == "first" else ["hidden", "mask"]
    for name in parts["lanes"][0]["heads"].values():
        parts["segments"][name] = head(reads)
    contents = manifest("attending", parts)
    lane = contents.lane("joint")
    assert lane.packed is not None
    answer = first if heads_read == "first" else pooled
    scripts: dict[str, Script] = {"embed": embed}
    scripts |= dict.fromkeys(lane.layers, padded_layer)
    scripts |= dict.fromkeys(lane.packed.layers, packed_layer)
    scripts |= dict.fromkeys(lane.heads.values(), answer)
    return contents, scripts


def embed(inputs: dict[str, Array]) -> dict[str, Array]:
    valid = inputs["input.mask"]
    hidden = np.where(valid[:, :, None] > 0, inputs["input.tokens"], np.float32(np.nan))
    hidden[:, 0] = inputs["input.tokens"][:, 0]
    return {"hidden": hidden, "mask": valid.astype(np.float32)}


def mixed(hidden: Array, mask: Array) -> Array:
    """Draw each token to the mean of its row, added up in an order that T does not change."""
    total = np.zeros((len(hidden), WIDTH))
    for place in range(hidden.shape[1]):
        seen = mask[:, place, None] > 0
        total += np.where(seen, hidden[:, place], 0.0)
    mean = total / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    update: Array = (0.5 * hidden + 0.5 * mean[:, None]).astype(np.float32)
    return update


def padded_layer(inputs: dict[str, Array]) -> dict[str, Array]:
    return {"hidden": mixed(inputs["hidden"], inputs["mask"])}


def packed_layer(inputs: dict[str, Array]) -> dict[str, Array]:
    hidden, gather = inputs["hidden"], inputs["pack.gather"]
    update = mixed(hidden[gather], inputs["pack.mask"])
    return {"hidden": update.reshape(-1, WIDTH)[inputs["pack.scatter"]]}


def first(inputs: dict[str, Array]) -> dict[str, Array]:
    return {"head.logits": inputs["hidden"][:, 0, :3].astype(np.float32)}


def pooled(inputs: dict[str, Array]) -> dict[str, Array]:
    logits = mixed(inputs["hidden"], inputs["mask"])[:, 0, :3]
    return {"head.logits": logits.astype(np.float32)}


def ragged(lengths: Sequence[int], padding: int = 0, seed: int = 0) -> list[dict[str, Array]]:
    """Return samples for `attending` of these lengths; with padding, so many tokens are not valid.

    Those stand anywhere but at the beginning.
    """
    random = np.random.default_rng(seed)
    samples: list[dict[str, Array]] = []
    for length in lengths:
        size = length + padding
        valid = np.ones(size, dtype=np.int64)
        valid[1 + random.permutation(size - 1)[:padding]] = 0
        tokens = random.normal(size=(size, WIDTH)).astype(np.float32)
        samples.append({"tokens": tokens, "mask": valid})
    return samples
