"""A bundle's segments, loaded by any backend, and a batch on its way through them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.collate import Collator
from exeunt.bench.workloads.lane import entering, last_head, single_lane
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.backends.base import Array, Backend
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.bundle.tensors import numpy_dtype
from exeunt.engine.errors import ConfigError

LOGITS = "head.logits"


class Segments:
    """The segments of a bundle of one lane. Peers that run one after another may share them.

    Raises:
        ConfigError: the bundle has several lanes, a loop or groups of rows, or its layers read
            raw tensors.
        BundleError: a segment cannot be loaded.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.manifest = bundle.manifest
        self.lane = single_lane(bundle.manifest)
        for name in {*self.lane.segments()} - {*entering(self.lane)}:
            if raw := set(self.manifest.segments[name].inputs.values()) - set(self.lane.state):
                raise ConfigError(
                    f"segment {name!r} of {self.manifest.name!r} reads {sorted(raw)}: expected"
                    " layers and heads that read the lane's state alone"
                )
        self.backend = backend.name
        self.loaded = {
            name: backend.load(bundle.manifest, bundle.root, name) for name in self.lane.segments()
        }


class _Bound(NamedTuple):
    """A segment bound to its memory. written: by reference, what a call fills, and its side."""

    call: Callable[[], None]
    written: dict[str, tuple[int, Array]]


class Walk:
    """A batch on its way through the lane, without allocation once every shape has been met.

    Each state has two places of memory: a segment reads one and fills the other. A segment is bound
    to them when it meets a shape for the first time.

    Args:
        segments: of the bundle.
        samples: all that will ever walk.
        max_rows: of a batch.
    """

    def __init__(self, segments: Segments, samples: Sequence[Sample], max_rows: int) -> None:
        self._segments = segments
        self._lane = segments.lane
        self._specs = segments.manifest.segments
        self._collate = Collator(segments.manifest, samples, max_rows)
        self._max_rows = max_rows
        self._memory: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._side: dict[str, int] = {}  # which of a state's two places holds it now
        self._now: dict[str, Array] = {}  # raw tensors and states of the batch, by reference
        self._bound: dict[tuple[object, ...], _Bound] = {}
        # The first batch sets how much memory a row takes, so it has the longest of every size.
        self.enter([self._longest()])

    @property
    def rows(self) -> int:
        """Rows of the batch now."""
        return len(next(iter(self._now.values())))

    def enter(self, samples: Sequence[Sample]) -> None:
        """Stack a batch and run what comes before the first layer."""
        self._now = {f"input.{name}": array for name, array in self._collate(samples).items()}
        for name in entering(self._lane):
            self._run(name)
        self._now = {text: array for text, array in self._now.items() if text in self._lane.state}

    def layer(self, layer: int) -> None:
        """Run a layer; they count from 1."""
        self._run(self._lane.layers[layer - 1])

    def head(self, layer: int) -> NDArray[np.float32] | None:
        """Run the exit head after a layer, where it has one.

        Returns:
            f32[B, C], which the next head overwrites; None where the layer has no head.
        """
        name = self._lane.heads.get(layer)
        return None if name is None else self._answer(name)

    def last_head(self) -> NDArray[np.float32]:
        """Run the head that answers at full depth; see `head`."""
        return self._answer(last_head(self._lane))

    def keep(self, places: NDArray[np.intp]) -> None:
        """Drop all rows but those at `places`, at least one."""
        for state in self._lane.state:
            if state not in self._now:
                continue
            old = self._now[state]
            side = 1 - self._side[state]
            new = self._view(state, side, (len(places), *old.shape[1:]))
            np.take(old, places, axis=0, out=new, mode="clip")  # the default mode is 3x slower
            self._now[state], self._side[state] = new, side

    def _longest(self) -> Sample:
        tensors = self._segments.manifest.tensors
        return {
            name: np.zeros(self._collate.longest[name], numpy_dtype(spec.dtype))
            for name, spec in tensors.items()
        }

    def _answer(self, name: str) -> NDArray[np.float32]:
        self._run(name)
        return self._now.pop(LOGITS)

    def _run(self, name: str) -> None:
        """Run a segment on the batch, and let what it has written be the batch's state."""
        reads = self._specs[name].inputs.values()
        key = (name, *((self._side.get(text), self._now[text].shape) for text in reads))
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._bind(name)
        bound.call()
        for text, (side, array) in bound.written.items():
            self._now[text], self._side[text] = array, side

    def _bind(self, name: str) -> _Bound:
        segment, spec = self._segments.loaded[name], self._specs[name]
        inputs = {graph: self._now[text] for graph, text in spec.inputs.items()}
        found = segment.run(inputs)  # shows the shapes that such inputs give
        written = {}
        for graph, text in spec.outputs.items():
            array = found[graph]
            if text not in self._memory:
                size = array.size // len(array) * self._max_rows
                self._memory[text] = (np.zeros(size, array.dtype), np.zeros(size, array.dtype))
            side = 1 - self._side.get(text, 0)
            written[text] = side, self._view(text, side, array.shape)
        outputs = {graph: written[text][1] for graph, text in spec.outputs.items()}
        return _Bound(segment.bind(inputs, outputs), written)

    def _view(self, text: str, side: int, shape: tuple[int, ...]) -> Array:
        return self._memory[text][side][: int(np.prod(shape))].reshape(shape)
