"""Runners: the memory and the frames of one lane for units of equal shapes."""

from collections import OrderedDict
from collections.abc import Sequence

from exeunt.engine.lanes.plan import LanePlan, Stage
from exeunt.engine.lanes.request import Shapes
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.step.frame import (
    Array,
    Buffers,
    Frame,
    Slots,
    build_frame,
    build_head_frame,
    gather,
)

MAX_SHAPES = 64  # sets of shapes whose memory and frames are kept while no unit uses them


class LaneRunner:
    """Runs the stages and heads of one lane for units of one set of shapes.

    Frames are built on first use (at start-up, where the engine is warmed) and kept: after that no
    step allocates a tensor.

    resident: requests that may be under way. max_batch_rows: rows of a batch.
    """

    def __init__(self, lane: LanePlan, resident: int, max_batch_rows: int) -> None:
        self.lane = lane
        self.slab = LaneSlab(resident * lane.units, lane.unit_rows)
        self._buffers = Buffers(max_batch_rows // lane.unit_rows, lane.unit_rows)
        self._frames: dict[tuple[int, int], Frame] = {}
        self._heads: dict[tuple[str, int, int], Frame] = {}

    def frame(self, place: int, units: Sequence[Unit], slots: Slots) -> tuple[Frame, bool]:
        """Return the frame of a stage, by its place in the lane, and whether it has just run."""
        key = (place, len(units))
        frame = self._frames.get(key)
        if frame is not None:
            return frame, False
        stage = self.lane.stages[place]
        frame, has_run = build_frame(stage, units, slots, self.slab, self._buffers)
        self._frames[key] = frame
        return frame, has_run

    def keep(self, frame: Frame, stage: Stage, units: Sequence[Unit], slots: Slots) -> None:
        """Write a stage's outputs to the units' slots."""
        count = len(units)
        for state, output in frame.outputs.items():
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

    def head(
        self, head: Stage, place: int, after: Frame, units: Sequence[Unit], slots: Slots
    ) -> Array:
        """Run a head on a batch whose stage has just run; return its logits float32 [U, C].

        The logits lie in a buffer that the head's next batch overwrites.
        """
        key = (head.name, place, len(units))
        frame = self._heads.get(key)
        if frame is None:
            frame = build_head_frame(head, after, units, slots, self.slab, self._buffers)
            self._heads[key] = frame
        else:
            if frame.sources:
                gather(frame.sources, units, slots)
            frame.call()
        return frame.outputs["logits"]


class Runners:
    """Every lane's runners, by shapes; those that nothing uses are given up, the oldest first."""

    def __init__(self, resident: int, max_batch_rows: int) -> None:
        self._resident = resident
        self._max_batch_rows = max_batch_rows
        self._runners: OrderedDict[tuple[int, Shapes], LaneRunner] = OrderedDict()

    def of(self, lane: LanePlan, shapes: Shapes) -> LaneRunner:
        """Return the runner of a lane for samples of these shapes."""
        key = (lane.index, shapes)
        runner = self._runners.get(key)
        if runner is None:
            self._give_up()
            runner = LaneRunner(lane, self._resident, self._max_batch_rows)
            self._runners[key] = runner
        else:
            self._runners.move_to_end(key)
        return runner

    def used_slots(self) -> int:
        """Slots that are taken, over all lanes and shapes; may be read from any thread."""
        return sum(runner.slab.used for runner in list(self._runners.values()))

    def slot_bytes(self) -> int:
        """Bytes of one request's states, of the largest shapes seen so far, over all lanes."""
        largest: dict[int, int] = {}
        for (lane, _), runner in list(self._runners.items()):
            own = runner.slab.slot_bytes * runner.lane.units
            largest[lane] = max(largest.get(lane, 0), own)
        return sum(largest.values())

    def _give_up(self) -> None:
        if len(self._runners) < MAX_SHAPES:
            return
        for key, runner in self._runners.items():
            if runner.slab.used == 0:
                del self._runners[key]
                return
