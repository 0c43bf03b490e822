"""Filling the caches of layers that earlier tokens skipped, just before a later one needs them."""

from collections.abc import Mapping

import numpy as np

from exeunt.engine.lanes.plan import LanePlan, Stage
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.step.frame import Array, Frame, Slots


class CacheFiller:
    """Runs a lane's `propagate` segments on tokens that left before a layer; see `LaneCaches`.

    It is part of the step of the layer that needs them, and its time counts there. Calls are bound
    on first use, one for each number of tokens.

    slab: where the units' caches are. most: tokens that are propagated at once.
    """

    def __init__(self, lane: LanePlan, slab: LaneSlab, most: int) -> None:
        self._segments = lane.propagate
        self._slab = slab
        self._most = most
        self._frames: dict[tuple[int, int], Frame] = {}
        self._memory: dict[tuple[str, tuple[int, ...], str], Array] = {}

    def fill(self, layer: int, slots: Slots) -> None:
        """Fill the caches of a layer for the units that are about to run it."""
        caches, stage = self._slab.caches, self._segments.get(layer)
        if caches is None or stage is None or not caches.due(layer, slots):
            return
        caches.fill(layer, slots, self._most, lambda states: self._run(layer, stage, states))

    def _run(self, layer: int, stage: Stage, states: dict[str, Array]) -> Mapping[str, Array]:
        count = len(next(iter(states.values())))
        inputs = {text: self._rows(f"in {text}", states[text], count) for _, text in stage.inputs}
        for text, buffer in inputs.items():
            buffer[:] = states[text]
        frame = self._frames.get((layer, count))
        if frame is None:
            feeds = {graph: inputs[text] for graph, text in stage.inputs}
            answered = stage.segment.run(feeds)
            outputs = {
                state: self._rows(f"out {place}", answered[graph], count)
                for place, (graph, state) in enumerate(stage.outputs)
            }
            bound = {graph: outputs[state] for graph, state in stage.outputs}
            call = stage.segment.bind(feeds, bound)
            frame = self._frames[layer, count] = Frame((), inputs, outputs, call)
        frame.call()
        return frame.outputs

    def _rows(self, name: str, like: Array, count: int) -> Array:
        """Return the first rows of the memory that all layers and all batches share."""
        key = (name, like.shape[1:], like.dtype.str)
        memory = self._memory.get(key)
        if memory is None:
            memory = self._memory[key] = np.empty((self._most, *like.shape[1:]), dtype=like.dtype)
        return memory[:count]
