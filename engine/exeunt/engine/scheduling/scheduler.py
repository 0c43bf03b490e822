"""The scheduler: keeps the waiting units in queues and hands out batches."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
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
        self._lines: dict[Key, _Line[AnyUnit]] = {}
        self.reason: Reason = "deepest"

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._lines

    def add(self, units: Iterable[AnyUnit], now_s: float) -> None:
        """Let units wait for the stages they stand at."""
        for _, alike in groupby(units, _key):
            self.add_alike(list(alike), now_s)

    def add_alike(self, units: Sequence[AnyUnit], now_s: float) -> None:
        """Let units wait that could share a batch: those that stay after one."""
        if not units:
            return
        first = units[0]
        for unit in units:
            unit.waiting_s = now_s
        key = _key(first)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(Queue(key[:2], 0, now_s), deque())
            line.view.worthwhile_rows = self._table.worthwhile(key[:2])
            self._head(line, first)
        line.units.extend(units)
        line.view.rows += len(units) * first.rows

    def next_batch(self, now_s: float, streams: int = 1) -> list[AnyUnit]:
        """Return the units that run next, all of one lane and stage; none when nothing waits.

        Units whose caller has left are dropped on the way.

        Args:
            now_s: the clock.
            streams: that could run a batch now; what waits at a stage is shared out among them, in
                batches that are worth running.
        """
        while self._lines:
            keys = list(self._lines)
            views = [line.view for line in self._lines.values()]
            choice = choose(views, self._settings, now_s)
            if batch := self._take(keys[choice.place], streams):
                self.reason = choice.reason
                return batch
        return []

    def drain(self) -> list[AnyUnit]:
        """Remove and return every waiting unit."""
        units = [unit for line in self._lines.values() for unit in line.units]
        self._lines.clear()
        return units

    def waiting_rows(self) -> dict[tuple[int, int], int]:
        """Return the rows that wait, by lane and stage; may be read from any thread."""
        rows: dict[tuple[int, int], int] = {}
        for (lane, stage, _), line in list(self._lines.items()):
            rows[lane, stage] = rows.get((lane, stage), 0) + line.view.rows
        return rows

    def _take(self, key: Key, streams: int) -> list[AnyUnit]:
        line = self._lines[key]
        units, view, rows_each = line.units, line.view, line.units[0].rows
        most = self._max_batch_rows
        if streams > 1:
            share = -(-view.rows // streams)
            most = min(most, max(share, view.worthwhile_rows, rows_each))
        batch: list[AnyUnit] = []
        taken, fitting = 0, most // rows_each
        while units and len(batch) < fitting:
            unit = units.popleft()
            taken += 1
            if unit.request.abandoned:
                unit.request.let_go()
            else:
                batch.append(unit)
        if units:
            view.rows -= taken * rows_each
            self._head(line, units[0])
        else:
            del self._lines[key]
        return batch

    def _head(self, line: "_Line[AnyUnit]", first: AnyUnit) -> None:
        """Note since when the first unit of a line waits, and when it must go on."""
        view = line.view
        view.oldest_s = first.waiting_s
        deadline_s = first.request.deadline_s
        view.latest_start_s = self._table.latest_start_s(view.depth, deadline_s)


def _key(unit: Waiting) -> Key:
    return unit.lane.index, unit.stage, unit.batch_key


@dataclass(slots=True)
class _Line(Generic[AnyUnit]):
    """Units that may share a batch, first come, first served. view: what the policy sees of it."""

    view: Queue
    units: deque[AnyUnit]


Scheduler = UnitScheduler[Unit]  # the engine's


def check_batch_rows(max_batch_rows: int, lanes: Iterable[Grouped]) -> str | None:
    """Return what is wrong with `max_batch_rows` for these lanes, None when nothing is."""
    for lane in lanes:
        if lane.unit_rows > max_batch_rows:
            return (
                f"max_batch_rows is {max_batch_rows}, but a group of lane {lane.name!r} has"
                f" {lane.unit_rows} rows, which must run together: raise it to {lane.unit_rows}"
            )
    return None
