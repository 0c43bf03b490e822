"""The scheduler: keeps the waiting units in queues and hands out batches."""

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from exeunt.engine.lanes.request import Shapes
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.scheduling.policy import PolicySettings, Queue, Reason, choose
from exeunt.engine.scheduling.table import StageTable
from exeunt.engine.scheduling.waiting import Grouped, Waiting

Key = tuple[int, int, Shapes]  # lane, stage, shapes
AnyUnit = TypeVar("AnyUnit", bound=Waiting)


class UnitScheduler(Generic[AnyUnit]):
    """Queues of units by lane, stage and shapes. Used by one thread alone.

    Of a unit it knows what `Waiting` says, so that a simulator schedules by the same code.

    max_batch_rows: rows of a batch at most; at least the largest group. table: what each stage
    costs. reason: why the last batch was chosen.
    """

    def __init__(
        self, max_batch_rows: int, settings: PolicySettings, table: StageTable | None = None
    ) -> None:
        self._max_batch_rows = max_batch_rows
        self._settings = settings
        self._table = table or StageTable()
        self._queues: dict[Key, deque[AnyUnit]] = {}
        self.reason: Reason = "deepest"

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._queues

    def add(self, units: Iterable[AnyUnit], now_s: float) -> None:
        """Let units wait for the stage they stand at."""
        for unit in units:
            unit.waiting_s = now_s
            key = (unit.lane.index, unit.stage, unit.batch_key)
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = deque()
            queue.append(unit)

    def next_batch(self, now_s: float, streams: int = 1) -> list[AnyUnit]:
        """Return the units that run next, all of one lane and stage; none when nothing waits.

        Units whose caller has left are dropped on the way.

        Args:
            now_s: the clock.
            streams: that could run a batch now; what waits at a stage is shared out among them, in
                batches that are worth running.
        """
        while self._queues:
            keys = list(self._queues)
            views = [self._view(key, self._queues[key]) for key in keys]
            choice = choose(views, self._settings, now_s)
            if batch := self._take(keys[choice.place], streams):
                self.reason = choice.reason
                return batch
        return []

    def drain(self) -> list[AnyUnit]:
        """Remove and return every waiting unit."""
        units = [unit for queue in self._queues.values() for unit in queue]
        self._queues.clear()
        return units

    def waiting_rows(self) -> dict[tuple[int, int], int]:
        """Return the rows that wait, by lane and stage; may be read from any thread."""
        rows: dict[tuple[int, int], int] = {}
        for (lane, stage, _), queue in list(self._queues.items()):
            rows[lane, stage] = rows.get((lane, stage), 0) + _rows(queue)
        return rows

    def _view(self, key: Key, queue: deque[AnyUnit]) -> Queue:
        stage = key[:2]
        first = queue[0]
        return Queue(
            stage,
            _rows(queue),
            first.waiting_s,
            self._table.worthwhile(stage),
            self._table.latest_start_s(stage, first.request.deadline_s),
        )

    def _take(self, key: Key, streams: int) -> list[AnyUnit]:
        queue = self._queues[key]
        most = self._max_batch_rows
        if streams > 1:
            share = -(-_rows(queue) // streams)
            most = min(most, max(share, self._table.worthwhile(key[:2]), queue[0].rows))
        batch: list[AnyUnit] = []
        rows = 0
        while queue and rows + queue[0].rows <= most:
            unit = queue.popleft()
            if unit.request.abandoned:
                unit.request.let_go()
                continue
            batch.append(unit)
            rows += unit.rows
        if not queue:
            del self._queues[key]
        return batch


Scheduler = UnitScheduler[Unit]  # the engine's


def _rows(queue: deque[AnyUnit]) -> int:
    try:
        return len(queue) * queue[0].rows
    except IndexError:  # emptied by the engine's thread meanwhile
        return 0


def check_batch_rows(max_batch_rows: int, lanes: Iterable[Grouped]) -> str | None:
    """Return what is wrong with `max_batch_rows` for these lanes, None when nothing is."""
    for lane in lanes:
        if lane.unit_rows > max_batch_rows:
            return (
                f"max_batch_rows is {max_batch_rows}, but a group of lane {lane.name!r} has"
                f" {lane.unit_rows} rows, which must run together: raise it to {lane.unit_rows}"
            )
    return None
