"""Filling the caches of layers that earlier tokens skipped, just before a later one needs them."""

from collections.abc import Mapping

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

    def fill(self, layer: int, slots: Slots) -> None:
        """Fill the caches of a layer for the units that are about to run it."""
        caches, stage = self._slab.caches, self._segments.get(layer)
        if caches is None or stage is None or not caches.due(layer, slots):
            return
        caches.fill(layer, slots, self._most, lambda states: self._run(layer, stage, states))

    def _run(self, layer: int, stage: Stage, states: dict[str, Array]) -> Mapping[str, Array]:
        count = len(next(iter(states.values())))
        frame = self._frames.get((layer, count))
        if frame is None:
            inputs = {text: states[text].copy() for _, text in stage.inputs}
            feeds = {graph: inputs[text] for graph, text in stage.inputs}
            answered = stage.segment.run(feeds)
            outputs = {state: answered[graph].copy() for graph, state in stage.outputs}
            bound = {graph: outputs[state] for graph, state in stage.outputs}
            call = stage.segment.bind(feeds, bound)
            frame = self._frames[layer, count] = Frame((), inputs, outputs, call)
            return outputs
        for text, buffer in frame.inputs.items():
            buffer[:] = states[text]
        frame.call()
        return frame.outputs
