"""Filling what layers keep just before they need it: contexts, and caches of skipped tokens."""

from collections.abc import Mapping

import numpy as np

from exeunt.engine.lanes.plan import LanePlan, Stage
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.step.frame import Array, Frame, Slots


class CacheFiller:
    """Runs a lane's `contexts` and `propagate` segments; see `LaneCaches`.

    `contexts` on units that come to a layer for the first time, `propagate` on tokens that left
    before it. That is part of the step of the layer that needs them, and its time counts there.
    Calls are bound on first use, one for each number of rows.

    slab: where the units' caches are. most: rows at once.
    """

    def __init__(self, lane: LanePlan, slab: LaneSlab, most: int) -> None:
        self._propagate, self._contexts = lane.propagate, lane.contexts
        self._slab = slab
        self._most = most
        self._frames: dict[tuple[str, int], Frame] = {}
        self._memory: dict[tuple[str, tuple[int, ...], str], Array] = {}

    def fill(self, layer: int, slots: Slots) -> None:
        """Fill what a layer keeps of the units that are about to run it."""
        caches = self._slab.caches
        assert caches is not None, "only lanes with caches are filled"
        if (context := self._contexts.get(layer)) is not None:
            missing = caches.without_context(layer, slots)
            for start in range(0, len(missing), self._most):
                rows = missing[start : start + self._most]
                states = {text: self._slab.states[text][rows, 0] for _, text in context.inputs}
                caches.give_context(layer, rows, self._run(context, states))
        if (stage := self._propagate.get(layer)) is not None and caches.due(layer, slots):
            caches.fill(layer, slots, self._most, lambda states: self._run(stage, states))

    def _run(self, stage: Stage, states: dict[str, Array]) -> Mapping[str, Array]:
        count = len(next(iter(states.values())))
        inputs = {text: self._rows(f"in {text}", states[text], count) for _, text in stage.inputs}
        for text, buffer in inputs.items():
            buffer[:] = states[text]
        frame = self._frames.get((stage.name, count))
        if frame is None:
            feeds = {graph: inputs[text] for graph, text in stage.inputs}
            answered = stage.segment.run(feeds)
            outputs = {
                state: self._rows(f"out {place}", answered[graph], count)
                for place, (graph, state) in enumerate(stage.outputs)
            }
            bound = {graph: outputs[state] for graph, state in stage.outputs}
            call = stage.segment.bind(feeds, bound)
            frame = self._frames[stage.name, count] = Frame((), inputs, outputs, call)
        frame.call()
        return frame.outputs

    def _rows(self, name: str, like: Array, count: int) -> Array:
        """Return the first rows of the memory that all layers and all batches share."""
        key = (name, like.shape[1:], like.dtype.str)
        memory = self._memory.get(key)
        if memory is None:
            memory = self._memory[key] = np.empty((self._most, *like.shape[1:]), dtype=like.dtype)
        return memory[:count]
