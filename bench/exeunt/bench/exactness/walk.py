"""One sample at a time through every layer and head: no batch, no scheduler, no engine.

It shares the segments with the engine, and with the packed layers the rule of where tokens lie.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.workloads.lane import entering, single_lane
from exeunt.engine.backends.base import Array, Backend, LoadedSegment
from exeunt.engine.bundle.manifest import LaneSpec, Manifest
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.config import Layout
from exeunt.engine.errors import ConfigError
from exeunt.engine.step.pack import pack_rows, valid_tokens

Tensors = Mapping[str, Array]
LOGITS = "head.logits"


class OneByOne:
    """Walks samples through a bundle's lane in batches of one row.

    Args:
        bundle: of one lane with a head after each layer.
        backend: runs the segments.
        layout: of the layers.

    Raises:
        ConfigError: the bundle has other lanes, or no layers of that layout.
        BundleError: a segment cannot be loaded.
    """

    def __init__(self, bundle: Bundle, backend: Backend, layout: Layout) -> None:
        self._manifest: Manifest = bundle.manifest
        self._lane = single_lane(self._manifest)
        missing = sorted({*range(1, self._lane.depth + 1)} - {*self._lane.heads})
        if missing or self._lane.final_head:
            raise ConfigError(
                f"the bundle {self._manifest.name!r} has no exit head after layers {missing}, or a"
                " final head: expected a head after each layer and no other"
            )
        layers = _layers(self._manifest, self._lane, layout)
        self._layout = layout
        self._layers: list[tuple[str, str]] = [
            (name, self._lane.heads[layer]) for layer, name in enumerate(layers, 1)
        ]
        names = {*entering(self._lane), *layers, *self._lane.heads.values()}
        self._loaded: dict[str, LoadedSegment] = {
            name: backend.load(self._manifest, bundle.root, name) for name in names
        }

    def __call__(self, sample: Tensors) -> NDArray[np.float32]:
        """Return the logits after every layer, f32[L, C].

        Args:
            sample: raw tensors without a sample axis, padded as they are to be computed.

        Raises:
            SegmentError: a segment failed.
        """
        tensors = {f"input.{name}": array[np.newaxis] for name, array in sample.items()}
        for name in entering(self._lane):
            tensors |= self._run(name, tensors)
        walk = self._packed if self._layout == "packed" else self._padded
        return np.stack(walk(tensors))

    def _padded(self, tensors: dict[str, Array]) -> list[Array]:
        logits = []
        for layer, head in self._layers:
            tensors |= self._run(layer, tensors)
            logits.append(self._run(head, tensors)[LOGITS][0])
        return logits

    def _packed(self, tensors: dict[str, Array]) -> list[Array]:
        packed = self._lane.packed
        assert packed is not None, "such a layout was asked for"
        mask = tensors[packed.mask]
        kept = valid_tokens(mask)
        pack = pack_rows(kept.sum(axis=1), mask[:, 0].astype(np.float32))
        states = [name for name in self._lane.state if name != packed.mask]
        tokens = pack.tensors() | {name: pack.padded(tensors[name][kept]) for name in states}
        view = pack.gather[:, :1] if packed.heads_read == "first" else pack.gather
        valid = tokens["pack.mask"][:, : view.shape[1]]
        logits = []
        for layer, head in self._layers:
            written = self._run(layer, tokens)
            tokens |= {name: pack.padded(array[: pack.count]) for name, array in written.items()}
            seen = {name: tokens[name][view] for name in states} | {packed.mask: valid}
            logits.append(self._run(head, seen)[LOGITS][0])
        return logits

    def _run(self, segment: str, tensors: Tensors) -> dict[str, Array]:
        """Run a segment; return what it writes, by reference."""
        spec = self._manifest.segments[segment]
        feeds = {graph: np.ascontiguousarray(tensors[text]) for graph, text in spec.inputs.items()}
        outputs = self._loaded[segment].run(feeds)
        return {text: outputs[graph] for graph, text in spec.outputs.items()}


def padded_to(manifest: Manifest, sample: Tensors, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Return a sample's raw tensors padded with zeros to these symbolic sizes.

    Args:
        manifest: says which axes have which size.
        sample: raw tensors, no larger than `sizes`.
        sizes: by symbolic name; axes of other names keep theirs.
    """
    padded = {}
    for name, spec in manifest.tensors.items():
        array = sample[name]
        wanted = [
            sizes.get(dim, found) if isinstance(dim, str) else found
            for dim, found in zip(spec.shape, array.shape, strict=True)
        ]
        padded[name] = np.pad(
            array, [(0, size - found) for size, found in zip(wanted, array.shape, strict=True)]
        )
    return padded


def _layers(manifest: Manifest, lane: LaneSpec, layout: Layout) -> Sequence[str]:
    if layout == "padded":
        return lane.layers
    if lane.packed is None:
        raise ConfigError(
            f"the bundle {manifest.name!r} has no packed layers: set layout to padded, or export it"
            " with --layout both"
        )
    return lane.packed.layers
