"""Runners: the memory and the frames in which units that share batches run through a lane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.lanes.plan import LanePlan, Stage
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.step.filling import CacheFiller
from exeunt.engine.step.frame import (
    Array,
    Buffers,
    Frame,
    Slots,
    build_frame,
    build_head_frame,
    gather,
)
from exeunt.engine.step.pack import Pack

Compared = tuple[NDArray[np.float32], NDArray[np.float32], Array | None]


@dataclass(slots=True)
class Batch:
    """U units at one stage, by its place in the lane, their tensors in the stage's frame.

    slots: the units'. has_run: whether the frame holds the outputs already. pack: of tokens that
    are packed.
    """

    place: int
    units: Sequence[Unit]
    slots: Slots
    frame: Frame
    has_run: bool = False
    pack: Pack | None = None


class Runner(Protocol):
    """Runs the stages and heads of one lane. Used by one thread, for one batch after another."""

    @property
    def lane(self) -> LanePlan:
        """The lane that the units walk."""
        ...

    @property
    def slab(self) -> LaneSlab:
        """Where the units' slots and their patience are."""
        ...

    def load(self, place: int, units: Sequence[Unit], slots: Slots) -> Batch:
        """Copy the units' tensors into the frame of a stage, by its place in the lane."""
        ...

    def keep(self, batch: Batch) -> None:
        """Write the outputs of the batch's stage to the units' slots."""
        ...

    def head(self, head: Stage, batch: Batch) -> Array:
        """Run a head on a batch whose stage has just run; return its logits float32 [U, C].

        The logits lie in a buffer that the head's next batch overwrites.
        """
        ...

    def compared(self, batch: Batch) -> Compared:
        """Return the lane's compared states before and after a layer, and their valid tokens.

        Two [U, T, D] and a bool [U, T] (None where every token is valid), T running over a unit's
        rows and over the compared states.
        """
        ...


class LaneRunner:
    """Runs units of one set of shapes.

    Frames are built on first use (at start-up, where the engine is warmed) and kept: after that no
    step allocates a tensor.

    slab: where the units have their slots. max_batch_rows: rows of a batch.
    """

    def __init__(self, lane: LanePlan, slab: LaneSlab, max_batch_rows: int) -> None:
        self.lane = lane
        self.slab = slab
        self._buffers = Buffers(max_batch_rows // lane.unit_rows, lane.unit_rows)
        self._frames: dict[tuple[int, int], Frame] = {}
        self._heads: dict[tuple[str, int, int], Frame] = {}
        self._appended = {name for cache in lane.spec.caches for name in cache.appended}
        fills = bool(lane.propagate or lane.contexts)
        self._filler = CacheFiller(lane, slab, max_batch_rows) if fills else None

    def load(self, place: int, units: Sequence[Unit], slots: Slots) -> Batch:
        """Gather into the frame of a stage; see `Runner.load`."""
        stage = self.lane.stages[place]
        if self._filler is not None and stage.layer:
            self._filler.fill(stage.layer, slots)
        key = (place, len(units))
        frame = self._frames.get(key)
        if frame is not None:
            gather(frame.sources, units, slots)
            return Batch(place, units, slots, frame)
        frame, has_run = build_frame(stage, units, slots, self.slab, self._buffers)
        self._frames[key] = frame
        if not has_run:
            gather(frame.sources, units, slots)
        return Batch(place, units, slots, frame, has_run)

    def keep(self, batch: Batch) -> None:
        """Write the outputs to the slab; see `Runner.keep`."""
        units, slots, count = batch.units, batch.slots, len(batch.units)
        stage, outputs, caches = (
            self.lane.stages[batch.place],
            batch.frame.outputs,
            self.slab.caches,
        )
        if caches is not None and stage.layer:
            caches.append(stage.layer, slots, outputs)
        for state, output in outputs.items():
            if state in self._appended:
                continue
            kept = self.slab.states.get(state)
            if kept is None:
                kept = self.slab.state(state, output.shape[1:], output.dtype)
            kept[slots] = output.reshape(count, *kept.shape[1:])
        for state in stage.first_written:
            kept = self.slab.states[state]
            for unit in units:
                unit.tensors[state] = kept[unit.slot]
        for reference in stage.drops:
            for unit in units:
                del unit.tensors[reference]

    def head(self, head: Stage, batch: Batch) -> Array:
        """Run a head where the stage has written; see `Runner.head`."""
        units, slots = batch.units, batch.slots
        key = (head.name, batch.place, len(units))
        frame = self._heads.get(key)
        if frame is None:
            frame = build_head_frame(head, batch.frame, units, slots, self.slab, self._buffers)
            self._heads[key] = frame
        else:
            if frame.sources:
                gather(frame.sources, units, slots)
            frame.call()
        return frame.outputs["logits"]

    def compared(self, batch: Batch) -> Compared:
        """Return the compared states; see `Runner.compared`."""
        frame, compare, count = batch.frame, self.lane.spec.compare, len(batch.units)

        def tokens(state: Array) -> Array:
            return state.reshape(count, -1, state.shape[-1])

        def mask(name: str) -> Array:
            read = frame.inputs.get(name)
            found = self.slab.states[name][batch.slots] if read is None else read
            valid: Array = found.reshape(count, -1) > 0
            return valid

        old = [tokens(frame.inputs[state]) for state in compare]
        new = [tokens(frame.outputs[state]) for state in compare]
        valid = None
        if any(name is not None for name in compare.values()):
            masks = [
                np.ones(part.shape[:2], dtype=np.bool_) if name is None else mask(name)
                for part, name in zip(old, compare.values(), strict=True)
            ]
            valid = np.concatenate(masks, axis=1)
        if len(old) == 1:
            return old[0], new[0], valid
        return np.concatenate(old, axis=1), np.concatenate(new, axis=1), valid
