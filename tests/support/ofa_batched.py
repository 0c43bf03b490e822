"""Walking an OFA plan's segments with many samples in each batch, every row for itself.

A reference for tests: rows stand at different steps, a layer runs for those that have not left, and
what lies in a cache beyond a row's own tokens is rubbish.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.engine.criteria import Cosine, Evidence
from exeunt.export.plan import BundlePlan, SegmentPlan
from tests.support.ofa_sequential import Fill

Array = NDArray[Any]
RunSegment = Callable[[SegmentPlan, dict[str, Array]], Mapping[str, Array]]
RUBBISH = 1e4


class Segments:
    """The segments of a plan, by references instead of the graphs' names."""

    def __init__(self, plan: BundlePlan, run: RunSegment) -> None:
        self._segments = {segment.name: segment for segment in plan.segments}
        self._run = run
        self.lanes = {lane.name: lane for lane in plan.lanes}

    def __call__(self, name: str, known: Mapping[str, Array]) -> dict[str, Array]:
        segment = self._segments[name]
        given = {p.name: np.ascontiguousarray(known[p.reference]) for p in segment.inputs}
        found = self._run(segment, given)
        return {port.reference: np.array(found[port.name]) for port in segment.outputs}


def cosines(old: Array, new: Array, mask: Array | None) -> NDArray[np.float32]:
    valid = None if mask is None else mask > 0
    return Cosine().score(Evidence(1, None, old, new, valid))


def walk_encoder(
    segments: Segments, lane: LaneSpec, raw: Mapping[str, Array], threshold: float
) -> tuple[dict[str, Array], NDArray[np.int64]]:
    """Return the lane's states with which each row left, and its exit layer."""
    assert lane.entry is not None
    states = segments(lane.entry, {f"input.{name}": array for name, array in raw.items()})
    exits = np.full(len(states["hidden"]), lane.depth)
    stays = np.arange(len(exits))
    for layer, name in enumerate(lane.layers, 1):
        before = {state: array[stays] for state, array in states.items()}
        after = segments(name, before)["hidden"]
        states["hidden"][stays] = after
        leaves = cosines(before["hidden"], after, before["mask"]) > threshold
        exits[stays[leaves]] = layer
        stays = stays[~leaves]
        if not len(stays):
            break
    return states, exits


class Decoder:
    """The decoder lane: every row has its own step, caches and exits."""

    def __init__(
        self, segments: Segments, joined: Mapping[str, Array], how: Fill, seed: int = 0
    ) -> None:
        self._segments, self._how = segments, how
        self._lane = lane = segments.lanes["decoder"]
        self._states: dict[str, Array] = {}
        for name in (*lane.setup, *lane.contexts.values()):
            self._states |= segments(name, {**joined, **self._states})
        rows = len(self._states["context"])
        rng = np.random.default_rng(seed)
        for name, spec in lane.state.items():
            if spec.role == "cache":
                shape = (rows, *(size for size in spec.shape if isinstance(size, int)))
                self._states[name] = (rng.normal(size=shape) * RUBBISH).astype(np.float32)
        self._cached = np.zeros((lane.depth + 1, rows), dtype=np.int64)  # by layer, from 1

    def step(
        self, rows: Array, tokens: Array, steps: Array, threshold: Callable[[int], float]
    ) -> tuple[Array, NDArray[np.int64]]:
        """Run one token of each of `rows`; return the logits [R, V] and the exit layers [R]."""
        lane = self._lane
        assert lane.entry is not None
        loop = {"loop.token": tokens[:, None], "loop.step": steps}
        own = {state: array[rows] for state, array in self._states.items()}
        entered = self._segments(lane.entry, {**own, **loop})
        self._store(rows, entered)
        exits = np.full(len(rows), lane.depth)
        stays = np.arange(len(rows))
        for layer, name in enumerate(lane.layers, 1):
            at = rows[stays]
            known = {state: array[at] for state, array in self._states.items()}
            known |= {"loop.step": steps[stays], "loop.cached": self._cached[layer, at]}
            found = self._segments(name, known)
            for state in lane.caches[layer - 1].appended:
                self._append(state, layer, at, found.pop(state))
            self._cached[layer, at] += 1
            self._store(at, found)
            scores = cosines(known["hidden"], found["hidden"], None)
            limits = np.array([threshold(step) for step in steps[stays].tolist()])
            leaves = scores > limits
            exits[stays[leaves]] = layer
            self._fill(at[leaves], layer)
            stays = stays[~leaves]
            if not len(stays):
                break
        head = lane.heads[1]
        logits = self._segments(head, {"hidden": self._states["hidden"][rows]})["head.logits"]
        return logits, exits

    def _store(self, rows: Array, found: Mapping[str, Array]) -> None:
        for state, array in found.items():
            if state not in self._states:
                shape = (self._cached.shape[1], *array.shape[1:])
                self._states[state] = np.zeros(shape, dtype=array.dtype)
            self._states[state][rows] = array

    def _append(self, state: str, layer: int, rows: Array, token: Array) -> None:
        self._states[state][rows, self._cached[layer, rows]] = token

    def _fill(self, rows: Array, exit_layer: int) -> None:
        """Fill the caches of the layers that these rows have skipped."""
        if self._how == "mue" or not len(rows):
            return
        caches = self._lane.caches
        source = caches[exit_layer - 1]
        for layer in range(exit_layer + 1, self._lane.depth + 1):
            target = caches[layer - 1]
            if self._how == "copy-layer":
                pairs = zip(
                    (*source.appended, *source.context),
                    (*target.appended, *target.context),
                    strict=True,
                )
                for one, other in pairs:
                    self._states[other][rows] = self._states[one][rows]
                self._cached[layer, rows] = self._cached[exit_layer, rows]
                continue
            if self._how == "propagate":
                name = self._lane.propagate[layer]
                tokens = self._segments(name, {"hidden": self._states["hidden"][rows]})
            else:
                last = self._cached[exit_layer, rows] - 1
                pairs = zip(source.appended, target.appended, strict=True)
                tokens = {other: self._states[one][rows, last] for one, other in pairs}
            for state in target.appended:
                self._append(state, layer, rows, tokens[state])
            self._cached[layer, rows] += 1
