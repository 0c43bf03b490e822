"""The slab: the states of a lane's units in one array a state, and a free list of its slots."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.engine.lanes.caches import LaneCaches
from exeunt.engine.lanes.tokens import TokenStore

Array = NDArray[Any]


class LaneSlab:
    """Holds every unit of one lane and one set of input shapes at a slot of its own.

    Memory is reserved when a state's shape is first known and touched slot by slot: the slots that
    were given back last are handed out first. Streams may read and write different slots at once;
    slots are taken and given back by one thread at a time.

    capacity: units at most. unit_rows: rows of a unit. packed: whether the units' layers run on
    packed tokens, which are kept in `tokens`. loop: a lane that keeps `caches` from step to step;
    left_behind: see `LaneCaches`.
    """

    def __init__(
        self,
        capacity: int,
        unit_rows: int,
        *,
        packed: bool = False,
        loop: LaneSpec | None = None,
        left_behind: tuple[str, ...] = (),
    ) -> None:
        self.capacity = capacity
        self.tokens = TokenStore(capacity) if packed else None
        self._making = Lock()
        self._unit_rows = unit_rows
        self._free = list(range(capacity - 1, -1, -1))
        self.states: dict[str, Array] = {}  # by name, [capacity, unit_rows, ...]
        self.caches: LaneCaches | None = None
        if loop is not None and loop.caches:
            self.caches = LaneCaches(loop, capacity, self.states, left_behind)
        self._loop = loop.loop if loop else None
        if self._loop is not None:
            rows, longest = (capacity, unit_rows), self._loop.max_steps + 1
            self.states |= {
                "loop.token": np.zeros((*rows, 1), dtype=np.int64),
                "loop.step": np.zeros(rows, dtype=np.int64),
                "loop.tokens": np.zeros((*rows, longest), dtype=np.int64),
            }
        # Patience's memory of each unit: its last answer and how often that was repeated.
        self.answers = np.full(capacity, -1, dtype=np.int64)
        self.streaks = np.zeros(capacity, dtype=np.int64)

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return self.capacity - len(self._free)

    @property
    def slot_bytes(self) -> int:
        """Bytes of the states known so far, for one unit."""
        padded = sum(int(array[0].nbytes) for array in self.states.values())
        return (
            padded
            + (self.tokens.slot_bytes if self.tokens else 0)
            + (self.caches.slot_bytes if self.caches else 0)
        )

    def take(self) -> int:
        """Return a free slot, its patience memory blank."""
        slot = self._free.pop()
        self.forget(slot)
        if self.caches is not None:
            self.caches.clear(slot)
        if self._loop is not None:
            self.states["loop.tokens"][slot] = self._loop.pad
            self.next_token(slot, 0, self._loop.start)
        return slot

    def next_token(self, slot: int, step: int, token: int) -> None:
        """Note the token that a unit's loop goes on from, at a step that counts from 0."""
        self.states["loop.token"][slot] = token
        self.states["loop.step"][slot] = step
        self.states["loop.tokens"][slot, :, step] = token

    def forget(self, slot: int) -> None:
        """Blank a unit's patience memory."""
        self.answers[slot] = -1
        self.streaks[slot] = 0

    def give_back(self, slot: int) -> None:
        """Free a slot."""
        self._free.append(slot)

    def state(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """Return a state's array [capacity, unit_rows, *shape], made on the first call."""
        wanted = (self.capacity, self._unit_rows, *shape)
        found = self.states.get(name)
        if found is None:
            with self._making:  # two streams may meet a state for the first time at once
                found = self.states.get(name)
                if found is None:
                    found = self.states[name] = np.empty(wanted, dtype=dtype)
        assert found.shape == wanted, f"{name} changed its shape from {found.shape} to {wanted}"
        return found
