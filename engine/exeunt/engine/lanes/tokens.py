"""Packed states: as many tokens of each unit as its row has, at the unit's slot."""

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class TokenStore:
    """Holds the tokens of a lane's units, which differ in number.

    A slot's memory is taken when its first unit comes and again only when a longer row than any
    before it does: after the longest has been met, nothing allocates. Streams may use different
    slots at once.

    capacity: slots. lengths: i64[capacity], the tokens of the row at each slot. leads:
    f32[capacity], what the mask says of its first token, which is never dropped.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._making = Lock()
        self._memory: dict[str, list[Array | None]] = {}
        self._token_bytes: dict[str, int] = {}
        self.lengths = np.zeros(capacity, dtype=np.int64)
        self.leads = np.ones(capacity, dtype=np.float32)
        self.longest = 0

    @property
    def slot_bytes(self) -> int:
        """Bytes of one unit's states, of the longest row seen so far."""
        return self.longest * sum(self._token_bytes.values())

    def enter(self, slot: int, length: int, lead: float) -> None:
        """Note how many tokens the row at a slot has, and the mask's value at the first of them."""
        self.lengths[slot] = length
        self.leads[slot] = lead
        if length > self.longest:
            with self._making:
                self.longest = max(self.longest, length)

    def put(self, state: str, slot: int, tokens: Array) -> Array:
        """Copy a row's tokens [n, ...] to a slot that it has entered; return where they lie."""
        count = len(tokens)
        slots = self._memory.get(state)
        if slots is None:
            with self._making:  # two streams may meet a state for the first time at once
                self._token_bytes[state] = tokens[0].nbytes
                slots = self._memory.setdefault(state, [None] * self._capacity)
        held = slots[slot]
        if held is None or len(held) < count:
            held = slots[slot] = np.empty((self.longest, *tokens.shape[1:]), dtype=tokens.dtype)
        view: Array = held[:count]
        view[:] = tokens
        return view
