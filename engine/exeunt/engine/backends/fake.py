"""The fake backend: deterministic arithmetic in place of a model, for tests and dry runs.

A row's hidden state is h = a p + b q, with p and q fixed patterns of signs. Its entry sets a = 0
and draws b in [0, 1) from the row's own inputs; every layer halves the distance of a to 1. So
successive layers grow alike (cosine), heads grow sure (entropy) and settle on an answer (patience),
rows with a larger b surer and later settled than others, and nothing depends on who shares a batch.
A constant that is no mask is made of its inputs too. A layer with caches appends numbers made of
its input, and its b moves with what the caches and its constants hold.
"""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.backends.base import Array, LoadedSegment, Tensors, bind_by_copy
from exeunt.engine.bundle.manifest import LaneSpec, Manifest, SegmentSpec
from exeunt.engine.bundle.tensors import (
    CACHED,
    LOOP_TENSORS,
    PACK_TENSORS,
    Reference,
    StateSpec,
    TensorSpec,
)
from exeunt.engine.errors import SegmentError

UNBOUND_SIZE = 4  # of a symbolic size that no input fixes
_SHARPNESS = (0.9, 1.1)  # of a head, by its name: no two heads answer alike


class FakeBackend:
    """Walks any manifest without its files.

    failing: names of segments that raise SegmentError; may be changed while the engine runs.
    invalid: names of heads that answer NaN. delay_s: how long every segment takes. calls: the last
    (segment, rows) pairs that ran.
    """

    name = "fake"
    compiles_shapes = False

    def __init__(self, delay_s: float = 0.0) -> None:
        self.failing: set[str] = set()
        self.invalid: set[str] = set()
        self.delay_s = delay_s
        self.calls: deque[tuple[str, int]] = deque(maxlen=100_000)

    def load(self, manifest: Manifest, root: Path, segment: str) -> LoadedSegment:  # noqa: ARG002 (the contract's signature; nothing is read from disk)
        """Return the segment's arithmetic; see `Backend.load`."""
        lane = next(lane for lane in manifest.lanes if segment in lane.every_segment())
        return _FakeSegment(self, segment, manifest, lane)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class _FakeSegment:
    def __init__(self, backend: FakeBackend, name: str, manifest: Manifest, lane: LaneSpec) -> None:
        self._backend = backend
        self._name = name
        self._spec: SegmentSpec = manifest.segments[name]
        self._lane = lane
        low, high = _SHARPNESS
        self._sharpness = low + (high - low) * crc32(name.encode()) / 2**32
        self._inputs = {
            graph: (text, _spec_of(manifest, lane, text))
            for graph, text in self._spec.inputs.items()
        }

    def run(self, inputs: Tensors) -> Tensors:
        """Compute every output from the inputs; see `LoadedSegment.run`."""
        rows = len(next(iter(inputs.values())))
        self._backend.calls.append((self._name, rows))
        if self._backend.delay_s:
            time.sleep(self._backend.delay_s)
        if self._name in self._backend.failing:
            raise SegmentError(f"segment {self._name!r} was told to fail")
        if self._spec.kind == "head":
            return {graph: self._head(inputs, rows) for graph in self._spec.outputs}
        return {
            graph: self._state(Reference.parse(text).name, inputs, rows)
            for graph, text in self._spec.outputs.items()
        }

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        """Run and copy; see `LoadedSegment.bind`."""
        return bind_by_copy(self, inputs, outputs)

    def _state(self, name: str, inputs: Tensors, rows: int) -> Array:
        old = next(
            (inputs[graph] for graph, (text, _) in self._inputs.items() if text == name), None
        )
        spec = self._lane.state[name]
        if spec.role == "cache":
            return self._slice(inputs, rows, spec)
        if old is not None:
            if spec.role != "carried":
                return old.copy()
            return _advance(old, self._seen(inputs, rows))
        shape = (rows, *self._shape(spec, inputs))
        if not spec.dtype.startswith("float") or (spec.role == "constant" and "mask" in name):
            return np.ones(shape, dtype=spec.dtype)
        seeds = self._seeds(inputs, rows)
        if spec.role == "constant":
            seeds = np.mod(seeds + crc32(name.encode()) / 2**32, 1.0)  # each its own
        return _compose(np.zeros(rows), seeds, shape).astype(spec.dtype)

    def _slice(self, inputs: Tensors, rows: int, spec: StateSpec) -> Array:
        """Return what a token appends to a cache: numbers of its own hidden state's."""
        hidden = next(
            inputs[graph]
            for graph, (text, _) in self._inputs.items()
            if text in self._lane.state and self._lane.state[text].role == "carried"
        )
        progress, seeds = _decompose(hidden)
        number = self._sharpness * seeds + 0.25 * progress
        shape = tuple(int(dim) for dim in spec.shape[1:])
        return np.broadcast_to(number.reshape(rows, *[1] * len(shape)), (rows, *shape)).astype(
            spec.dtype
        )

    def _seen(self, inputs: Tensors, rows: int) -> NDArray[np.float64]:
        """Return [rows] numbers made of a layer's caches, by their places, and of its constants."""
        seen = np.zeros(rows)
        held = next((inputs[g] for g, (text, _) in self._inputs.items() if text == CACHED), None)
        if held is None:
            return seen
        for graph, (text, _) in self._inputs.items():
            if text in self._lane.state and self._lane.state[text].role == "cache":
                first = inputs[graph].reshape(rows, inputs[graph].shape[1], -1)[..., 0]
                places = np.arange(first.shape[1])
                weights = (places < held[:, np.newaxis]) * (0.1 + 0.05 * places)
                seen += (first.astype(np.float64) * weights).sum(axis=1)
            elif self._is_context(text):
                seen += 0.31 * _decompose(inputs[graph])[1]
        return seen

    def _is_context(self, text: str) -> bool:
        spec = self._lane.state.get(text)
        return spec is not None and spec.role == "constant" and "mask" not in text

    def _shape(self, spec: StateSpec, inputs: Tensors) -> tuple[int, ...]:
        sizes: dict[str, int] = {}
        for graph, (_, known) in self._inputs.items():
            trailing = inputs[graph].shape[inputs[graph].ndim - len(known.shape) :]
            pairs = zip(known.shape, trailing, strict=True)
            sizes |= {dim: size for dim, size in pairs if isinstance(dim, str)}
        return tuple(
            sizes.get(dim, UNBOUND_SIZE) if isinstance(dim, str) else dim for dim in spec.shape
        )

    def _seeds(self, inputs: Tensors, rows: int) -> NDArray[np.float64]:
        """Return [rows] numbers in [0, 1), each drawn from its own row's inputs."""
        total = np.zeros(rows)
        for place, array in enumerate(inputs.values()):
            flat = array.reshape(rows, -1).astype(np.float64)
            weights = 1.0 + np.arange(flat.shape[1]) % 13
            total += (1.0 + 0.37 * place) * (np.abs(flat) * weights).sum(axis=1)
        return np.mod(total * 0.6180339887498949, 1.0)

    def _head(self, inputs: Tensors, rows: int) -> NDArray[np.float32]:
        classes = self._lane.classes
        assert classes is not None, "a lane with heads says how wide they are"
        hidden = next(
            inputs[graph]
            for graph, (text, known) in self._inputs.items()
            if known.dtype.startswith("float") and text in self._lane.state
        )
        progress, seeds = _decompose(hidden)
        logits = np.zeros((rows, classes), dtype=np.float32)
        sure = self._sharpness * (0.5 + seeds) * progress / np.maximum(1.0 - progress, 1e-3)
        wavering = 8.0 * seeds * (1.0 - progress)  # the answer still changes in early layers
        answers = np.floor(seeds * 1e4 + wavering).astype(np.int64) % classes
        logits[np.arange(rows), answers] = sure.astype(np.float32)
        if self._name in self._backend.invalid:
            logits[:] = np.nan
        return logits


def _spec_of(manifest: Manifest, lane: LaneSpec, text: str) -> TensorSpec | StateSpec:
    scope, name = Reference.parse(text)
    if scope == "input":
        return manifest.tensors[name]
    if scope == "loop":
        return LOOP_TENSORS[name]
    if scope == "pack":
        return PACK_TENSORS[name]
    return (manifest.lane(scope) if scope else lane).state[name]


def _patterns(size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    place = np.arange(size)
    return 1.0 - 2.0 * (place % 2), 1.0 - 2.0 * (place // 2 % 2)


def _compose(progress: NDArray[Any], seeds: NDArray[Any], shape: tuple[int, ...]) -> Array:
    first, second = _patterns(int(np.prod(shape[1:])))
    flat: Array = progress[:, np.newaxis] * first + seeds[:, np.newaxis] * second
    return flat.reshape(shape)


def _decompose(hidden: Array) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each row's a, clamped to [0, 1], and b."""
    flat: NDArray[np.float64] = hidden.reshape(len(hidden), -1).astype(np.float64)
    whole = flat[:, : max(4, flat.shape[1] // 4 * 4)]  # where the patterns are orthogonal
    first, second = _patterns(whole.shape[1])
    progress = np.asarray((whole * first).mean(axis=1), dtype=np.float64)
    seeds = np.asarray((whole * second).mean(axis=1), dtype=np.float64)
    return np.minimum(np.maximum(progress, 0.0), 1.0), np.abs(seeds)


def _advance(old: Array, seen: NDArray[np.float64]) -> Array:
    """Return the next state: a has half as far to 1, b moves on with what was seen."""
    if not np.issubdtype(old.dtype, np.floating):
        return old.copy()
    first, second = _patterns(int(np.prod(old.shape[1:])))
    progress, seeds = _decompose(old)
    step = (1.0 - progress) / 2.0
    moved: Array = old.reshape(len(old), -1) + step[:, np.newaxis] * first
    if seen.any():
        turned = np.where(seen != 0.0, np.mod(seeds + seen, 1.0) - seeds, 0.0)
        moved += turned[:, np.newaxis] * second
    return moved.reshape(old.shape).astype(old.dtype)
