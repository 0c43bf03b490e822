"""Frames: a segment bound once to the memory that a batch of a given size passes through."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.tensors import CACHED
from exeunt.engine.lanes.plan import Stage
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.lanes.unit import Unit

Array = NDArray[Any]
Slots = NDArray[np.intp]  # [U], a slot for each unit of the batch


@dataclass(frozen=True, slots=True)
class Source:
    """One tensor that a frame reads. buffer: [U, unit rows, ...], or [U * unit rows, ...].

    slab: where units keep it, [capacity, unit rows, ...]; None for a tensor that each unit brings
    along (raw inputs, another lane's state, the loop's tokens).
    """

    reference: str
    buffer: Array
    slab: Array | None


@dataclass(frozen=True, slots=True)
class Frame:
    """A stage made ready for U units.

    inputs, outputs: by reference or state, [U * unit rows, ...], views of the lane's buffers.
    call: runs the segment from the one to the other. Where a frame has just been built its outputs
    may hold the answer already: see `build_frame`.
    """

    sources: tuple[Source, ...]
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    call: Callable[[], None]


class Buffers:
    """The input and output memory that all stages of a lane share, for batches of every size.

    max_units: units of a batch at most. unit_rows: rows of a unit.
    """

    def __init__(self, max_units: int, unit_rows: int) -> None:
        self._rows = max_units * unit_rows
        self._memory: dict[tuple[str, tuple[int, ...], str], Array] = {}
        self._outputs: dict[tuple[str, str], Array] = {}

    def rows(self, name: str, like: Array, rows: int) -> Array:
        """Return the first rows of the buffer for tensors like this one: [rows, ...]."""
        key = (name, like.shape[1:], like.dtype.str)
        memory = self._memory.get(key)
        if memory is None:
            memory = self._memory[key] = np.empty((self._rows, *like.shape[1:]), dtype=like.dtype)
        return memory[:rows]

    def knows(self, segment: str, state: str) -> bool:
        """Return whether the shape of a segment's output is known."""
        return (segment, state) in self._outputs

    def learn(self, segment: str, state: str, like: Array) -> None:
        """Keep a segment's output, seen for the first time, and remember its shape."""
        self.rows(f"out {state}", like, len(like))[:] = like
        self._outputs[segment, state] = self._memory[f"out {state}", like.shape[1:], like.dtype.str]

    def output(self, segment: str, state: str, rows: int) -> Array:
        """Return the first rows of the buffer that a segment writes a state to."""
        return self._outputs[segment, state][:rows]


def build_frame(
    stage: Stage, units: Sequence[Unit], slots: Slots, slab: LaneSlab, buffers: Buffers
) -> tuple[Frame, bool]:
    """Make a stage ready for as many units as these, whose tensors tell the shapes.

    Returns:
        The frame, and whether it has run: only by running does the first batch of all learn the
        shapes of the outputs.
    """
    references = [reference for _, reference in stage.inputs]
    sources, inputs = build_sources(references, units, slab, buffers, stage.layer)
    feeds = {graph: inputs[reference] for graph, reference in stage.inputs}
    learns = not all(buffers.knows(stage.name, state) for _, state in stage.outputs)
    if learns:
        gather(sources, units, slots)
        answered = stage.segment.run(feeds)
        for graph, state in stage.outputs:
            buffers.learn(stage.name, state, answered[graph])
    rows = len(units) * units[0].rows
    outputs = {state: buffers.output(stage.name, state, rows) for _, state in stage.outputs}
    bound = {graph: outputs[state] for graph, state in stage.outputs}
    return Frame(sources, inputs, outputs, stage.segment.bind(feeds, bound)), learns


def build_head_frame(
    head: Stage,
    after: Frame,
    units: Sequence[Unit],
    slots: Slots,
    slab: LaneSlab,
    buffers: Buffers,
) -> Frame:
    """Make a head ready to read where a stage's frame has written; copy only what it has not.

    A group's head sees [U, unit rows, ...]. The frame has run: that tells the shape of its logits.
    """
    count, unit_rows = len(units), units[0].rows
    reads = {**after.inputs, **after.outputs}
    missing = [reference for _, reference in head.inputs if reference not in reads]
    sources, gathered = build_sources(missing, units, slab, buffers, head.layer)
    gather(sources, units, slots)
    reads |= gathered
    feeds = {graph: reads[reference] for graph, reference in head.inputs}
    if unit_rows > 1:
        feeds = {
            graph: array.reshape(count, unit_rows, *array.shape[1:])
            for graph, array in feeds.items()
        }
    answered = head.segment.run(feeds)
    outputs = {name: answered[graph].copy() for graph, name in head.outputs}
    call = head.segment.bind(feeds, {graph: outputs[name] for graph, name in head.outputs})
    return Frame(sources, reads, outputs, call)


def build_sources(
    references: Sequence[str],
    units: Sequence[Unit],
    slab: LaneSlab,
    buffers: Buffers,
    layer: int,
) -> tuple[tuple[Source, ...], dict[str, Array]]:
    """Return where each tensor comes from, and the buffers [U * unit rows, ...] it goes to."""
    count = len(units)
    sources, views = [], {}
    for reference in references:
        if reference == CACHED and slab.caches is not None:
            kept: Array | None = slab.caches.counts[layer - 1]
            like = slab.caches.counts[layer - 1, :1]
        else:
            kept = slab.states.get(reference)
            # What a layer's context segment has just made is in the slab alone.
            found = units[0].tensors.get(reference)
            like = kept[0] if found is None and kept is not None else units[0].tensors[reference]
        view = buffers.rows(f"in {reference}", like, count * units[0].rows)
        views[reference] = view
        target = view if kept is None else view.reshape(count, *kept.shape[1:])
        sources.append(Source(reference, target, kept))
    return tuple(sources), views


def gather(sources: Sequence[Source], units: Sequence[Unit], slots: Slots) -> None:
    """Copy the units' tensors into the input buffers, side by side."""
    for source in sources:
        if source.slab is not None:
            # The default mode checks every index and takes three times as long.
            source.slab.take(slots, axis=0, out=source.buffer, mode="clip")
        else:
            np.concatenate([unit.tensors[source.reference] for unit in units], out=source.buffer)
