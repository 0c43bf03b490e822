"""The slabs of all lanes: one for each lane and set of input shapes, shared by every stream."""

from collections import OrderedDict

from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import Shapes
from exeunt.engine.lanes.slab import LaneSlab

MAX_SHAPES = 64  # sets of shapes whose memory is kept while no unit uses it


class Slabs:
    """The slabs by lane and shapes; those that nothing uses are given up, the oldest first.

    A lane on packed tokens has one for all shapes. Asked for slabs by one thread at a time.

    resident: requests that may be under way.
    """

    def __init__(self, resident: int) -> None:
        self._resident = resident
        self._slabs: OrderedDict[tuple[int, Shapes], LaneSlab] = OrderedDict()
        self._units: dict[int, int] = {}  # of a request, by lane

    def of(self, lane: LanePlan, shapes: Shapes) -> LaneSlab:
        """Return where units of samples of these shapes have their slots in a lane."""
        key = (lane.index, () if lane.packed else shapes)
        slab = self._slabs.get(key)
        if slab is None:
            self._give_up()
            packed, loop = lane.packed is not None, lane.spec if lane.spec.loop else None
            capacity = self._resident * lane.units
            slab = LaneSlab(
                capacity, lane.unit_rows, packed=packed, loop=loop, left_behind=lane.left_behind
            )
            self._slabs[key] = slab
            self._units[lane.index] = lane.units
        else:
            self._slabs.move_to_end(key)
        return slab

    def used_slots(self) -> int:
        """Slots that are taken, over all lanes and shapes; may be read from any thread."""
        return sum(slab.used for slab in list(self._slabs.values()))

    def slot_bytes(self) -> int:
        """Bytes of one request's states, of the largest shapes seen so far, over all lanes."""
        largest: dict[int, int] = {}
        for (lane, _), slab in list(self._slabs.items()):
            own = slab.slot_bytes * self._units[lane]
            largest[lane] = max(largest.get(lane, 0), own)
        return sum(largest.values())

    def _give_up(self) -> None:
        if len(self._slabs) < MAX_SHAPES:
            return
        for key, slab in self._slabs.items():
            if slab.used == 0:
                del self._slabs[key]
                return
