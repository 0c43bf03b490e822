"""Every lane's runners: by shapes, and one for all lengths where a lane's layers are packed."""

from collections import OrderedDict

from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import Shapes
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.step.lane_runner import LaneRunner, Runner
from exeunt.engine.step.packed import PackedEntry, PackedRunner

MAX_SHAPES = 64  # sets of shapes whose memory and frames are kept while no unit uses them


class Runners:
    """The runners by lane and shapes; those that nothing uses are given up, the oldest first."""

    def __init__(self, resident: int, max_batch_rows: int) -> None:
        self._resident = resident
        self._max_batch_rows = max_batch_rows
        self._runners: OrderedDict[tuple[int, Shapes], LaneRunner] = OrderedDict()
        self._packed: dict[int, PackedRunner] = {}

    def of(self, lane: LanePlan, place: int, shapes: Shapes) -> Runner:
        """Return the runner of a lane's stage, by its place, for samples of these shapes."""
        if lane.packed is None:
            return self._of_shapes(lane, shapes)
        packed = self._of_packed(lane)
        if place >= lane.first_layer:
            return packed
        return PackedEntry(self._of_shapes(lane, shapes), packed)

    def slab(self, lane: LanePlan, shapes: Shapes) -> LaneSlab:
        """Return where units of samples of these shapes have their slots in a lane."""
        if lane.packed is None:
            return self._of_shapes(lane, shapes).slab
        return self._of_packed(lane).slab

    def used_slots(self) -> int:
        """Slots that are taken, over all lanes and shapes; may be read from any thread."""
        used = sum(runner.slab.used for runner in list(self._runners.values()))
        return used + sum(runner.slab.used for runner in list(self._packed.values()))

    def slot_bytes(self) -> int:
        """Bytes of one request's states, of the largest shapes seen so far, over all lanes."""
        largest: dict[int, int] = {}
        for (lane, _), runner in list(self._runners.items()):
            own = runner.slab.slot_bytes * runner.lane.units
            largest[lane] = max(largest.get(lane, 0), own)
        packed = sum(runner.slot_bytes for runner in list(self._packed.values()))
        return sum(largest.values()) + packed

    def _of_shapes(self, lane: LanePlan, shapes: Shapes) -> LaneRunner:
        key = (lane.index, shapes)
        runner = self._runners.get(key)
        if runner is None:
            self._give_up()
            runner = LaneRunner(lane, self._resident, self._max_batch_rows)
            self._runners[key] = runner
        else:
            self._runners.move_to_end(key)
        return runner

    def _of_packed(self, lane: LanePlan) -> PackedRunner:
        runner = self._packed.get(lane.index)
        if runner is None:
            runner = PackedRunner(lane, self._resident, self._max_batch_rows)
            self._packed[lane.index] = runner
        return runner

    def _give_up(self) -> None:
        if len(self._runners) < MAX_SHAPES:
            return
        for key, runner in self._runners.items():
            if runner.slab.used == 0:
                del self._runners[key]
                return
