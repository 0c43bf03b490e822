"""A stream's runners: by lane and shapes, and one for all lengths where layers are packed."""

from collections import OrderedDict

from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import Shapes
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.lanes.slabs import MAX_SHAPES
from exeunt.engine.step.lane_runner import LaneRunner, Runner
from exeunt.engine.step.packed import PackedEntry, PackedRunner


class Runners:
    """The memory and the frames of one stream; no other thread uses them.

    What was not used for longest is given up; the units' states are in the slabs.

    max_batch_rows: rows of a batch.
    """

    def __init__(self, max_batch_rows: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._runners: OrderedDict[tuple[int, Shapes], LaneRunner] = OrderedDict()
        self._packed: dict[int, PackedRunner] = {}

    def of(self, lane: LanePlan, place: int, shapes: Shapes, slab: LaneSlab) -> Runner:
        """Return the runner of a lane's stage.

        Args:
            lane: that the units walk.
            place: the stage's place in the lane.
            shapes: of the units' samples.
            slab: where the units have their slots.
        """
        if lane.packed is None:
            return self._of_shapes(lane, shapes, slab)
        if place >= lane.first_layer:
            return self._of_packed(lane, slab)
        found = self._runners.get((lane.index, shapes))
        # The entry keeps nothing of its own: units get a slot's memory when their padding is gone.
        blank = found.slab if found else LaneSlab(0, lane.unit_rows)
        return PackedEntry(self._of_shapes(lane, shapes, blank), slab)

    def _of_shapes(self, lane: LanePlan, shapes: Shapes, slab: LaneSlab) -> LaneRunner:
        key = (lane.index, shapes)
        runner = self._runners.get(key)
        # A slab that nobody used may have been given up and made anew.
        if runner is None or runner.slab is not slab:
            if len(self._runners) >= MAX_SHAPES:
                self._runners.popitem(last=False)
            runner = self._runners[key] = LaneRunner(lane, slab, self._max_batch_rows)
        self._runners.move_to_end(key)
        return runner

    def _of_packed(self, lane: LanePlan, slab: LaneSlab) -> PackedRunner:
        runner = self._packed.get(lane.index)
        if runner is None or runner.slab is not slab:
            runner = PackedRunner(lane, slab, self._max_batch_rows)
            self._packed[lane.index] = runner
        return runner
