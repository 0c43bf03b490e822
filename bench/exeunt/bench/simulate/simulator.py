"""The engine in virtual time: its scheduler and its policy, with costs in place of segments."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from exeunt.bench.load import Outcome, Reading
from exeunt.bench.simulate.arrivals import Source
from exeunt.bench.simulate.batches import BatchLog
from exeunt.bench.simulate.costs import CostFile
from exeunt.bench.simulate.walk import SimulatedRequest, SimulatedUnit, simulated_lanes
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import QueueFull
from exeunt.engine.scheduling.opening import plan_scheduling
from exeunt.engine.scheduling.policy import Reason
from exeunt.engine.scheduling.scheduler import UnitScheduler
from exeunt.engine.trace import MAX_BATCHES, Trace, TracedBatch

Exits = Callable[[int], tuple[int, ...]]


def simulated_scheduler(costs: CostFile, config: EngineConfig) -> UnitScheduler[SimulatedUnit]:
    """Return the scheduler that an engine of these costs and settings would have."""
    rows, lanes = _residents(costs, config) * costs.rows, simulated_lanes(costs)
    settings, table = plan_scheduling(config, costs.planned, lanes, rows)
    return UnitScheduler(config.max_batch_rows, settings, table)


def _residents(costs: CostFile, config: EngineConfig) -> int:
    return max(1, config.resident_rows // costs.rows)


@dataclass(frozen=True, slots=True, order=True)
class _Running:
    """A batch that a stream runs. number: counts the batches, for an order of equal ends."""

    ended_s: float
    number: int
    stream: int
    batch: Sequence[SimulatedUnit]
    started_s: float
    reason: Reason


class Simulator:
    """One engine that serves one source, step by step, as `Worker` does.

    Args:
        costs: of segments and steps.
        config: the engine's; batches, streams, queue, residents and policy are read.
        source: sends the requests.
        exits: the exit layer in each lane, by the sample's place.
        log: counts the batches.
        seed: of where in the measured spread the run begins, where the costs have one.
        trace: is filled as an engine fills its own; None records nothing.
    """

    def __init__(
        self,
        costs: CostFile,
        config: EngineConfig,
        source: Source,
        exits: Exits,
        log: BatchLog,
        seed: int = 0,
        trace: Trace | None = None,
    ) -> None:
        self._lanes = simulated_lanes(costs)
        self._possible = sum(lane.depth for lane in self._lanes)
        self._request_s = costs.own.request_s
        self._spread = costs.spread
        self._slow = Random(seed).randrange(len(costs.spread)) if costs.spread else 0
        self._scheduler = simulated_scheduler(costs, config)
        self._latency_target_s = config.latency_target_s
        self._places = config.max_queued_rows // costs.rows
        self._residents = _residents(costs, config)
        self._source, self._exits, self._log, self._trace = source, exits, log, trace
        self._now_s = 0.0
        self._idle = list(range(config.streams - 1, -1, -1))  # streams without a batch
        self._running: list[_Running] = []  # a heap, the next one to end first
        self._batches = 0
        self._sent = 0
        self._in_system = 0
        self._resident = 0
        self._waiting: deque[SimulatedRequest] = deque()
        self._outcomes: list[Outcome] = []

    def run(self) -> list[Outcome]:
        """Serve every request that comes and return what became of them, in that order."""
        while True:
            while self._idle and self._start():
                pass
            ends_s = self._running[0].ended_s if self._running else math.inf
            if self._idle and self._source.next_s < ends_s:
                self._now_s = self._source.next_s
                self._receive(self._now_s)
            elif self._running:
                self._end(heappop(self._running))
            else:
                return self._outcomes

    def _receive(self, until_s: float) -> None:
        """Admit what is sent up to a time, or refuse it when the queue is full."""
        source, target_s = self._source, self._latency_target_s
        while source.next_s <= until_s:
            sent_s, sample = source.take()
            self._sent += 1
            if self._in_system >= self._places:
                self._outcomes.append(
                    Outcome(sample, sent_s, sent_s, sent_s, QueueFull.error_type, None)
                )
                source.answered(sent_s)
                continue
            self._in_system += 1
            deadline_s = None if target_s is None else sent_s + target_s
            left = [0] * len(self._lanes)
            self._waiting.append(
                SimulatedRequest(self._sent, sample, sent_s, self._exits(sample), deadline_s, left)
            )

    def _take_in(self) -> float:
        """Let requests enter their lanes, as many as there is room for; return when it is done."""
        self._receive(self._now_s)
        now_s = self._now_s
        while self._waiting and self._resident < self._residents:
            request = self._waiting.popleft()
            self._resident += 1
            now_s += self._request_s
            for lane in self._lanes:
                if not lane.waits_for:
                    self._enter(request, lane.index, now_s)
        return now_s

    def _enter(self, request: SimulatedRequest, index: int, now_s: float) -> None:
        lane = self._lanes[index]
        last = lane.last_stage(request.exits[index])
        units = [SimulatedUnit(request, lane, last, lane.unit_rows) for _ in range(lane.units)]
        self._scheduler.add(units, now_s)

    def _start(self) -> bool:
        """Let an idle stream begin a batch; return whether there was one."""
        now_s = self._take_in()
        batch = self._scheduler.next_batch(now_s, len(self._idle))
        if not batch:
            return False
        lane, stage = batch[0].lane, batch[0].stage
        constant_s, row_s = lane.batch_s[stage]
        seconds = constant_s + row_s * len(batch) * lane.unit_rows
        if self._spread:
            self._slow = (self._slow + 1) % len(self._spread)
            seconds *= self._spread[self._slow]
        self._batches += 1
        reason, stream = self._scheduler.reason, self._idle.pop()
        heappush(
            self._running,
            _Running(now_s + seconds, self._batches, stream, batch, now_s, reason),
        )
        return True

    def _end(self, ran: _Running) -> None:
        """Move a batch's units on; its stream is idle again."""
        batch, ended_s = ran.batch, ran.ended_s
        lane, stage = batch[0].lane, batch[0].stage
        self._now_s = ended_s
        self._idle.append(ran.stream)
        self._receive(ended_s)
        staying: list[SimulatedUnit] = []
        leaving: list[SimulatedUnit] = []
        for unit in batch:
            unit.stage += 1
            (leaving if unit.stage > unit.last_stage else staying).append(unit)
        rows = len(batch) * lane.unit_rows
        self._log.add(lane, stage, rows, ran.started_s, ended_s, ran.reason)
        if self._trace is not None:
            self._record(ran, stage, leaving)
        self._scheduler.add_alike(staying, ended_s)
        for unit in leaving:
            self._leave(unit, ended_s)

    def _leave(self, unit: SimulatedUnit, now_s: float) -> None:
        request, lane = unit.request, unit.lane
        request.left[lane.index] += 1
        if request.left[lane.index] < lane.units:
            return
        if lane is self._lanes[-1]:
            self._answer(request, now_s)
            return
        for index in lane.feeds:
            joined = (self._lanes[other] for other in self._lanes[index].waits_for)
            if all(request.left[other.index] == other.units for other in joined):
                self._enter(request, index, now_s)

    def _answer(self, request: SimulatedRequest, now_s: float) -> None:
        self._in_system -= 1
        self._resident -= 1
        exits = request.exits
        reading = Reading(None, 0, exits[-1], self._lanes[-1].depth, sum(exits), self._possible)
        sent_s = request.scheduled_s
        self._outcomes.append(Outcome(request.sample, sent_s, sent_s, now_s, None, reading))
        self._source.answered(now_s)

    def _record(self, ran: _Running, stage: int, leaving: Sequence[SimulatedUnit]) -> None:
        assert self._trace is not None, "asked before"
        if len(self._trace.batches) >= MAX_BATCHES:
            self._trace.dropped += 1
            return
        lane = ran.batch[0].lane
        why = "drawn" if lane.layers[stage] < lane.depth else "depth"
        self._trace.batches.append(
            TracedBatch(
                ran.started_s,
                ran.ended_s,
                lane.name,
                lane.segments[stage],
                lane.layers[stage],
                ran.reason,
                tuple(unit.request.number for unit in ran.batch),
                tuple((unit.request.number, why) for unit in leaving),
                ran.stream,
            )
        )
