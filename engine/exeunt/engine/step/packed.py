"""Runners of a lane on packed tokens: rows of any length share its batches."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from exeunt.engine.bundle.tensors import PACK_TENSORS, numpy_dtype
from exeunt.engine.lanes.plan import PACK, LanePlan, Stage
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.lanes.tokens import TokenStore
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.step.frame import Array, Frame, Slots
from exeunt.engine.step.lane_runner import Batch, Compared, LaneRunner
from exeunt.engine.step.pack import Pack, pack_rows, rounded, valid_tokens

MAX_FRAMES = 4096  # bound calls that are kept; the one not used for longest is given up


class PackMemory:
    """The buffers that all packed layers of a lane share, for every batch so far.

    max_rows: of a batch.
    """

    def __init__(self, lane: LanePlan, max_rows: int) -> None:
        self._specs = lane.spec.state
        self._max_rows = max_rows
        self._tokens = 0
        self._memory: dict[str, Array] = {}

    def grow(self, longest: int) -> bool:
        """Make room for a full batch of rows of so many tokens; return whether memory is new."""
        wanted = rounded(self._max_rows * rounded(longest))
        if wanted <= self._tokens:
            return False
        self._tokens = wanted
        self._memory.clear()
        return True

    def view(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """Return a buffer's beginning, contiguous and of that shape; zeros at first."""
        held = self._memory.get(name)
        size = int(np.prod(shape))
        if held is None:
            each = size // shape[0] if name.startswith("state ") else 1
            held = self._memory[name] = np.zeros(self._tokens * each, dtype=dtype)
        return held[:size].reshape(shape)

    def state(self, side: str, state: str, tokens: int) -> Array:
        """Return the buffer of a state, `in` or `out` of a layer: [tokens, ...]."""
        spec = self._specs[state]
        shape = (tokens, *(int(size) for size in spec.shape[1:]))
        return self.view(f"state {side} {state}", shape, numpy_dtype(spec.dtype))


class PackedRunner:
    """Runs a lane's packed layers, and the heads behind them.

    slab: where the units keep their tokens. max_batch_rows: rows of a batch.
    """

    def __init__(self, lane: LanePlan, slab: LaneSlab, max_batch_rows: int) -> None:
        assert lane.packed is not None, "only a packed lane has packed layers"
        self.lane = lane
        self.slab = slab
        self.tokens = tokens_of(slab)
        self._mask = lane.packed.mask
        self._reads_first = lane.packed.heads_read == "first"
        self._memory = PackMemory(lane, max_batch_rows)
        self._frames: OrderedDict[tuple[int, ...], Frame] = OrderedDict()
        self._heads: dict[tuple[str, int, int], Frame] = {}

    def load(self, place: int, units: Sequence[Unit], slots: Slots) -> Batch:
        """Lay the units' tokens side by side; see `Runner.load`."""
        pack = pack_rows(self.tokens.lengths[slots], self.tokens.leads[slots])
        if self._memory.grow(self.tokens.longest):
            self._frames.clear()
            self._heads.clear()
        frame = self._frame(place, pack)
        for reference, buffer in frame.inputs.items():
            if reference not in PACK:
                parts = [unit.tensors[reference] for unit in units]
                np.concatenate(parts, out=buffer[: pack.count])
                buffer[pack.count :] = 0
        _write(pack, frame.inputs)
        return Batch(place, units, slots, frame, pack=pack)

    def keep(self, batch: Batch) -> None:
        """Write a layer's outputs over the units' tokens; see `Runner.keep`."""
        pack = _pack_of(batch)
        bounds = list(zip(batch.units, pack.starts.tolist(), pack.ends.tolist(), strict=True))
        for state, output in batch.frame.outputs.items():
            for unit, start, end in bounds:
                unit.tensors[state][:] = output[start:end]

    def head(self, head: Stage, batch: Batch) -> Array:
        """Run a head on first tokens or on the padded view; see `Runner.head`."""
        pack = _pack_of(batch)
        width = 1 if self._reads_first else pack.tokens
        feeds = {graph: self._read(text, batch.frame, pack) for graph, text in head.inputs}
        key = (head.name, pack.rows, width)
        frame = self._heads.get(key)
        if frame is None:
            answered = head.segment.run(feeds)
            outputs = {name: answered[graph].copy() for graph, name in head.outputs}
            bound = {graph: outputs[name] for graph, name in head.outputs}
            frame = Frame((), {}, outputs, head.segment.bind(feeds, bound))
            self._heads[key] = frame
        else:
            frame.call()
        return frame.outputs["logits"]

    def compared(self, batch: Batch) -> Compared:
        """Return the compared state in a padded view; see `Runner.compared`."""
        (state,) = self.lane.spec.compare
        gather, valid = _pack_of(batch).summable()
        frame = batch.frame
        return frame.inputs[state][gather], frame.outputs[state][gather], valid

    def _frame(self, place: int, pack: Pack) -> Frame:
        key = (place, pack.rows, pack.tokens, pack.size)
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
            return frame
        stage, memory = self.lane.stages[place], self._memory
        shapes = {"gather": pack.gather.shape, "mask": pack.gather.shape, "scatter": (pack.size,)}
        inputs = {
            text: memory.view(text, shapes[name := text.removeprefix("pack.")], _pack_dtype(name))
            if text in PACK
            else memory.state("in", text, pack.size)
            for _, text in stage.inputs
        }
        outputs = {state: memory.state("out", state, pack.size) for _, state in stage.outputs}
        call = stage.segment.bind(
            {graph: inputs[text] for graph, text in stage.inputs},
            {graph: outputs[state] for graph, state in stage.outputs},
        )
        frame = self._frames[key] = Frame((), inputs, outputs, call)
        if len(self._frames) > MAX_FRAMES:
            self._frames.popitem(last=False)
        return frame

    def _read(self, text: str, after: Frame, pack: Pack) -> Array:
        """Fill and return what a head reads: [B, 1, ...] of first tokens, or [B, T, ...]."""
        width = 1 if self._reads_first else pack.tokens
        if text == self._mask:
            mask = self._memory.view("head mask", (pack.rows, width), np.dtype(np.float32))
            if self._reads_first:
                mask[:, 0] = pack.leads
            else:
                pack.write_mask(mask)
            return mask
        source = after.outputs[text]
        view = self._memory.view(
            f"state head {text}", (pack.rows * width, *source.shape[1:]), source.dtype
        )
        places = pack.starts if self._reads_first else pack.gather.reshape(-1)
        source.take(places, axis=0, out=view, mode="clip")
        return view.reshape(pack.rows, width, *source.shape[1:])


class PackedEntry:
    """Runs the entry of a packed lane, for rows of one set of shapes, and drops their padding.

    inner: runs it. slab: where the units keep their tokens.
    """

    def __init__(self, inner: LaneRunner, slab: LaneSlab) -> None:
        assert inner.lane.packed is not None, "only a packed lane drops padding"
        self.lane = inner.lane
        self.slab = slab
        self._inner = inner
        self._tokens = tokens_of(slab)
        self._mask = inner.lane.packed.mask

    def load(self, place: int, units: Sequence[Unit], slots: Slots) -> Batch:
        """Gather raw tensors; see `Runner.load`."""
        return self._inner.load(place, units, slots)

    def keep(self, batch: Batch) -> None:
        """Write each row's valid tokens to its slot; see `Runner.keep`."""
        outputs = batch.frame.outputs
        mask = outputs[self._mask]
        kept = valid_tokens(mask)
        drops = self.lane.stages[batch.place].drops
        for row, (unit, length) in enumerate(
            zip(batch.units, kept.sum(axis=1).tolist(), strict=True)
        ):
            self._tokens.enter(unit.slot, length, float(mask[row, 0]))
            for state, output in outputs.items():
                if state != self._mask:
                    tokens = output[row] if length == len(output[row]) else output[row][kept[row]]
                    unit.tensors[state] = self._tokens.put(state, unit.slot, tokens)
            for reference in drops:
                del unit.tensors[reference]

    def head(self, head: Stage, batch: Batch) -> Array:
        """Run a head behind the entry; see `Runner.head`."""
        return self._inner.head(head, batch)

    def compared(self, batch: Batch) -> Compared:
        """Return the compared states; see `Runner.compared`."""
        return self._inner.compared(batch)


def tokens_of(slab: LaneSlab) -> TokenStore:
    """Return the store of packed tokens in the slab of a lane on packed tokens."""
    assert slab.tokens is not None, "the slab was made for packed tokens"
    return slab.tokens


def _pack_of(batch: Batch) -> Pack:
    assert batch.pack is not None, "loaded by the packed runner"
    return batch.pack


def _write(pack: Pack, inputs: dict[str, Array]) -> None:
    """Fill the index tensors that a layer reads."""
    if (gather := inputs.get("pack.gather")) is not None:
        gather[:] = pack.gather
    if (mask := inputs.get("pack.mask")) is not None:
        pack.write_mask(mask)
    if (scatter := inputs.get("pack.scatter")) is not None:
        scatter[: pack.count] = pack.scatter
        scatter[pack.count :] = 0


def _pack_dtype(name: str) -> np.dtype[np.generic]:
    return numpy_dtype(PACK_TENSORS[name].dtype)
