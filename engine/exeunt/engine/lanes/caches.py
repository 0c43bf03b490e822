"""What a loop lane keeps of earlier tokens, slot by slot: counts, and states to fill in from."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.engine.bundle.tensors import numpy_dtype
from exeunt.engine.exit_policy.format import Fills

Array = NDArray[Any]
Slots = NDArray[np.intp]


class LaneCaches:
    """The caches of one lane's units, and how many tokens each layer's hold.

    The caches' memory is the slab's: `states` [capacity, 1, S, W]. Filling is lazy under
    `propagate`: a token that leaves early leaves its hidden state behind, and only when a later
    token reaches a layer is that layer filled. Nothing is computed for layers that no later token
    reaches, and what is computed is the same.

    lane: whose layers. capacity: slots. states: the slab's arrays by name. left_behind: the carried
    states from which skipped layers are filled.
    """

    def __init__(
        self,
        lane: LaneSpec,
        capacity: int,
        states: dict[str, Array],
        left_behind: tuple[str, ...] = (),
    ) -> None:
        assert lane.loop is not None, "only a loop keeps caches"
        self._layers = lane.caches
        self._states = states
        self._carried = left_behind
        self._capacity, self._steps = capacity, lane.loop.max_steps
        # [layers, capacity]: a layer's column is contiguous, and gathered whole.
        self.counts = np.zeros((lane.depth, capacity), dtype=np.int64)
        self._due = np.zeros((lane.depth, capacity), dtype=np.int64)
        self._has_context = np.zeros((lane.depth, capacity), dtype=np.bool_)
        self._left: dict[str, Array] = {}  # carried states of tokens that left: [capacity, S, ...]
        self._making = Lock()
        for cache in lane.caches:
            for name in cache.appended:
                spec = lane.state[name]
                shape = (capacity, 1, *(int(dim) for dim in spec.shape))
                # Zeros cost nothing until they are touched, and rubbish might not be finite.
                states[name] = np.zeros(shape, dtype=numpy_dtype(spec.dtype))

    @property
    def slot_bytes(self) -> int:
        """Bytes that a slot takes beside the slab's states, once a token of it has left early."""
        known = [self._states[name] for name in self._carried if name in self._states]
        return 17 * len(self.counts) + self._steps * sum(int(array[0].nbytes) for array in known)

    def clear(self, slot: int) -> None:
        """Forget what a slot held."""
        self.counts[:, slot] = 0
        self._due[:, slot] = 0
        self._has_context[:, slot] = False

    def append(self, layer: int, slots: Slots, slices: Mapping[str, Array]) -> None:
        """Write the new token's slices [U, W] of a layer behind what its caches hold."""
        counts = self.counts[layer - 1]
        places = counts[slots]
        for name in self._layers[layer - 1].appended:
            self._states[name][slots, 0, places] = slices[name]
        counts[slots] = places + 1

    def left(self, layer: int, slots: Slots, steps: Slots, fill: Fills) -> None:
        """Note that tokens left after a layer, before the last.

        `propagate`: every skipped layer computes keys and values from the state that left (CALM).
        `copy-token`: it takes over the token's from the exit's layer. `copy-layer`: it takes over
        all that the exit's layer holds, context included, as the comment in MuE's code intends.
        `mue`: nothing, as MuE's code really does; later tokens see shorter caches there.

        Args:
            layer: after which they left.
            slots: [U], of the units.
            steps: [U], the tokens' places in their loops.
            fill: how.
        """
        if fill == "mue" or layer == len(self._layers):
            return
        if fill == "propagate":
            for name in self._carried:
                self._place_of_left(name)[slots, steps] = self._states[name][slots, 0]
            self._due[layer:, slots] += 1
            return
        source = self._layers[layer - 1]
        held = self.counts[layer - 1][slots]
        for other in range(layer + 1, len(self._layers) + 1):
            target, counts = self._layers[other - 1], self.counts[other - 1]
            for name, new in zip(source.appended, target.appended, strict=True):
                if fill == "copy-token":
                    token = self._states[name][slots, 0, held - 1]
                    self._states[new][slots, 0, counts[slots]] = token
                else:
                    self._states[new][slots] = self._states[name][slots]
            counts[slots] = counts[slots] + 1 if fill == "copy-token" else held
            if fill == "copy-layer":
                self._copy_context(layer, other, slots)

    def without_context(self, layer: int, slots: Slots) -> Slots:
        """Return those of the slots whose units have not been in a layer yet."""
        missing: Slots = slots[~self._has_context[layer - 1][slots]]
        return missing

    def give_context(self, layer: int, slots: Slots, arrays: Mapping[str, Array]) -> None:
        """Keep what a layer's units attend to, [U, ...] by name."""
        for name in self._layers[layer - 1].context:
            kept, new = self._state(name, arrays[name]), arrays[name]
            kept[slots, 0] = new
        self._has_context[layer - 1][slots] = True

    def share_context(self, slot: int, other: int) -> None:
        """Note that a slot holds all that another one's layers attend to."""
        self._has_context[:, other] = self._has_context[:, slot]

    def due(self, layer: int, slots: Slots) -> bool:
        """Return whether tokens are missing in a layer's caches that have to be propagated."""
        return bool(self._due[layer - 1][slots].any())

    def fill(
        self,
        layer: int,
        slots: Slots,
        most: int,
        propagate: Callable[[dict[str, Array]], Mapping[str, Array]],
    ) -> None:
        """Fill a layer's caches with the tokens that skipped it.

        Args:
            layer: which a unit is about to run.
            slots: of the units.
            most: tokens that are propagated at once.
            propagate: from carried states [R, ...] of R tokens to the caches' slices [R, W], by
                name.
        """
        counts, due = self.counts[layer - 1], self._due[layer - 1]
        missing = due[slots]
        owners = np.repeat(slots, missing)
        firsts = np.repeat(counts[slots], missing)
        places = firsts + np.arange(len(owners)) - np.repeat(np.cumsum(missing) - missing, missing)
        for start in range(0, len(owners), most):
            rows, at = owners[start : start + most], places[start : start + most]
            slices = propagate({name: array[rows, at] for name, array in self._left.items()})
            for name in self._layers[layer - 1].appended:
                self._states[name][rows, 0, at] = slices[name]
        counts[slots] += missing
        due[slots] = 0

    def move(self, sources: Sequence[int], targets: Sequence[int], *, context: bool) -> None:
        """Let slots hold what others hold, all at once: beams that go on from another's tokens.

        context: whether the layers' constants may differ from slot to slot.
        """
        if list(sources) == list(targets):
            return
        old, new = np.asarray(sources, dtype=np.intp), np.asarray(targets, dtype=np.intp)
        for cache in self._layers:
            for name in (*cache.appended, *(cache.context if context else ())):
                if name in self._states:
                    self._states[name][new] = self._states[name][old]
        if context:
            self._has_context[:, new] = self._has_context[:, old]
        for array in self._left.values():
            array[new] = array[old]
        for table in (self.counts, self._due):
            table[:, new] = table[:, old]

    def _copy_context(self, layer: int, other: int, slots: Slots) -> None:
        source, target = self._layers[layer - 1].context, self._layers[other - 1].context
        for name, new in zip(source, target, strict=True):
            array = self._states[name]
            self._state(new, array[:, 0])[slots] = array[slots]
        self._has_context[other - 1][slots] = True

    def _state(self, name: str, like: Array) -> Array:
        """Return a layer's context [capacity, 1, ...], which is made when a unit first needs it."""
        kept = self._states.get(name)
        if kept is None:
            with self._making:
                kept = self._states.get(name)
                if kept is None:
                    shape = (self._capacity, 1, *like.shape[1:])
                    kept = self._states[name] = np.empty(shape, dtype=like.dtype)
        return kept

    def _place_of_left(self, name: str) -> Array:
        """Return where the states of tokens that left are kept: [capacity, S, ...]."""
        kept = self._left.get(name)
        if kept is None:
            with self._making:  # two streams may be the first at once
                kept = self._left.get(name)
                if kept is None:
                    like = self._states[name]
                    shape = (self._capacity, self._steps, *like.shape[2:])
                    kept = self._left[name] = np.empty(shape, dtype=like.dtype)
        return kept
