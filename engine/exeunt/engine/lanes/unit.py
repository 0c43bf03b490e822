"""A decision unit: a row, or a group of rows that decide together, in one lane."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.tensors import CACHED, Reference, numpy_dtype
from exeunt.engine.exit_policy.compiled import LanePolicy
from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import LaneExit, Request, Shapes
from exeunt.engine.lanes.slab import LaneSlab

Array = NDArray[Any]


@dataclass(eq=False, slots=True)
class Unit:
    """The state of a unit, filled by the engine.

    first_row: the place of its first row among the sample's. stage: the stage it waits for.
    tensors: by reference, each [rows, ...]; its own states are views of the slab, and [tokens, ...]
    where its layers run on packed tokens. slab, slot: where those lie; none in a probe. tokens,
    exits: of a loop, one a step. waiting_s: since when it waits, on the engine's clock. in_step:
    whether a stream runs it now.
    """

    request: Request
    lane: LanePlan
    policy: LanePolicy
    first_row: int
    tensors: dict[str, Array]
    stage: int = 0
    slab: LaneSlab | None = None
    slot: int = -1
    tokens: list[int] = field(default_factory=list)
    exits: list[LaneExit] = field(default_factory=list)
    waiting_s: float = 0.0
    in_step: bool = False

    @property
    def batch_key(self) -> Shapes:
        """What units of a stage must have in common to share a batch; nothing on packed tokens."""
        if self.lane.packed is not None and self.stage >= self.lane.first_layer:
            return ()
        return self.request.shape_key

    @property
    def rows(self) -> int:
        """Rows of the unit."""
        return self.lane.unit_rows

    def settle(self, slab: LaneSlab) -> None:
        """Take a slot; the caches are there from the beginning, and empty."""
        self.slab, self.slot = slab, slab.take()
        for cache in self.lane.spec.caches:
            for name in cache.appended:
                self.tensors[name] = slab.states[name][self.slot]

    def fork(self) -> "Unit":
        """Return another unit of the request that holds what this one holds, in its own slot."""
        assert self.slab is not None, "only units under way are forked"
        other = Unit(self.request, self.lane, self.policy, self.first_row, dict(self.tensors))
        self.request.units.append(other)
        other.settle(self.slab)
        for name, array in self.slab.states.items():
            array[other.slot] = array[self.slot]
            if name in self.tensors:
                other.tensors[name] = array[other.slot]
        if self.slab.caches is not None:
            self.slab.caches.share_context(self.slot, other.slot)
        other.take_over(self)
        return other

    def take_over(self, parent: "Unit") -> None:
        """Let the caches and the loop's tokens be those of another unit of the request."""
        assert self.slab is not None, "only units under way take over"
        tokens = self.slab.states["loop.tokens"]
        tokens[self.slot] = tokens[parent.slot]
        if self.slab.caches is not None:
            own_context = self.policy.fill == "copy-layer"
            self.slab.caches.move([parent.slot], [self.slot], context=own_context)

    def release(self) -> None:
        """Give the slot back; releasing twice is harmless."""
        slab, self.slab = self.slab, None
        if slab is not None:
            slab.give_back(self.slot)

    def next_step(self) -> None:
        """Go back to the beginning of the loop, behind the tokens so far."""
        self.stage = self.lane.loop_stage
        assert self.slab is not None, "only units under way take steps"
        self.slab.forget(self.slot)
        self.slab.next_token(self.slot, len(self.tokens), self.tokens[-1])


def enter_lane(request: Request, lane: LanePlan) -> list[Unit]:
    """Return the units with which a request enters a lane, their external tensors resolved."""
    request.entered.add(lane.name)
    policy = request.lane_policy(lane)
    units = []
    for first in range(0, lane.spec.rows, lane.unit_rows):
        tensors = {
            text: _resolve(request, lane, reference, first) for text, reference in lane.resolved
        }
        if lane.spec.loop:
            tensors |= first_step(lane)
        units.append(Unit(request, lane, policy, first, tensors))
    return units


def first_step(lane: LanePlan) -> dict[str, Array]:
    """Return `loop.tokens`, `loop.step` and `loop.token` of a first step: [rows, ...]."""
    loop, rows = lane.spec.loop, lane.unit_rows
    assert loop is not None, "only a loop lane has loop tensors"
    tokens = np.full((rows, loop.max_steps + 1), loop.pad, dtype=np.int64)
    tokens[:, 0] = loop.start
    return {
        "loop.tokens": tokens,
        "loop.step": np.zeros(rows, dtype=np.int64),
        "loop.token": tokens[:, :1],
    }


def empty_caches(lane: LanePlan) -> dict[str, Array]:
    """Return what a unit without a slot reads as its caches: zeros that hold no token."""
    caches: dict[str, Array] = {
        name: np.zeros((1, *(int(dim) for dim in lane.spec.state[name].shape)), dtype=dtype)
        for cache in lane.spec.caches
        for name in cache.appended
        for dtype in [numpy_dtype(lane.spec.state[name].dtype)]
    }
    if caches:
        caches[CACHED] = np.zeros(1, dtype=np.int64)
    return caches


def _resolve(request: Request, lane: LanePlan, reference: Reference, first: int) -> Array:
    """Return a raw tensor or another lane's state as this unit's rows see it: [rows, ...]."""
    scope, name = reference
    if scope == "input":
        tensor = request.tensors[name]
        source = tensor if name in request.task.row_tensors else tensor[np.newaxis]
    else:
        finished = [unit.tensors[name] for unit in request.finished[scope]]
        source = finished[0] if len(finished) == 1 else np.concatenate(finished)
    return fit_rows(source, first, lane.unit_rows, lane.spec.rows)


def fit_rows(source: Array, first: int, rows: int, lane_rows: int) -> Array:
    """Return the slice of `source` that belongs to rows first .. first + rows of a lane.

    As many source rows as the lane's: each takes its own. A single one: all share it. Several for
    a lane of one row: it sees them all, on an axis of their own.
    """
    if len(source) == lane_rows:
        return source[first : first + rows]
    if len(source) == 1:
        return np.broadcast_to(source, (rows, *source.shape[1:]))
    return source[np.newaxis]
