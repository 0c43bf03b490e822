"""The engine's thread: takes requests in and steps until there is nothing left to do."""

import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread

from exeunt.engine.errors import EngineStopped, ExeuntError, SegmentError
from exeunt.engine.lanes.request import Request
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.scheduling.scheduler import Scheduler
from exeunt.engine.stats import EngineStats
from exeunt.engine.step.executor import Executor
from exeunt.engine.step.routing import Router, fail
from exeunt.engine.trace import Trace

RETRY_S = 1.0  # between attempts to run the segments again after one failed


class Worker:
    """Owns the scheduler and runs steps in one thread.

    A segment that fails ends the requests of its batch at once and makes the engine unhealthy until
    `self_check` passes again. Anything else that escapes a step ends the thread and every request.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        router: Router,
        stats: EngineStats,
        self_check: Callable[[], None],
    ) -> None:
        self.trace: Trace | None = None  # set from outside while somebody records
        self._scheduler = scheduler
        self._executor = executor
        self._router = router
        self._waiting: deque[Request] = deque()  # until the slabs have room
        self._stats = stats
        self._self_check = self_check
        self._inbox: SimpleQueue[Request | None] = SimpleQueue()
        self._in_hand: list[Request] = []  # taken from a queue and not yet put into the next
        self._retry_s: float | None = None
        self._closing = False
        self._closed = False  # nothing enters the inbox any more; guarded by the door
        self._door = Lock()
        self._dead: BaseException | None = None
        self._thread = Thread(target=self._main, name="exeunt-engine", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the thread runs and no segment is known to fail."""
        return self._thread.is_alive() and self._dead is None and self._retry_s is None

    @property
    def dead(self) -> BaseException | None:
        """What ended the thread; None while it runs or after an orderly close."""
        return self._dead

    @property
    def closed(self) -> bool:
        """Whether `close` was called or the thread is gone: nothing new is taken in."""
        return self._closing or self._closed

    @property
    def waiting(self) -> int:
        """Requests that wait until the slabs have room."""
        return len(self._waiting)

    @property
    def scheduler(self) -> Scheduler:
        """The queues, for counting what waits."""
        return self._scheduler

    def submit(self, request: Request) -> None:
        """Hand a request to the thread; fails it at once when the thread is gone."""
        with self._door:
            open_ = not self._closed
            if open_:
                self._inbox.put(request)
        if not open_:
            fail(request, self.stopped(), self._stats, time.monotonic())

    def close(self, timeout_s: float | None = None) -> None:
        """Stop the thread after the step it is in; requests that are left fail."""
        self._closing = True
        self._inbox.put(None)
        if current_thread() is not self._thread:  # a future's callback may close the engine
            self._thread.join(timeout_s)

    def stopped(self) -> EngineStopped:
        """Return the error for whoever comes too late."""
        if self._dead is not None:
            return EngineStopped(f"the engine has died ({self._dead}): restart the server")
        return EngineStopped("the engine is closed: send the request to another replica")

    def _main(self) -> None:
        try:
            while not self._closing:
                self._take_in()
                self._recover()
                self._step()
        except BaseException as error:  # the thread's last word: every caller must hear of it
            self._dead = error
        with self._door:
            self._closed = True
        self._abandon(self.stopped())

    def _take_in(self) -> None:
        """Take new requests in, as many as the slabs have room for; sleep while there are none."""
        # Callers that leave together can empty the queues while others wait for their places.
        block = self._scheduler.idle and not self._waiting
        while True:
            try:
                timeout = RETRY_S if self._retry_s is not None else None
                request = self._inbox.get(block=block, timeout=timeout if block else None)
            except Empty:
                break
            block = False
            if request is None:
                break
            self._waiting.append(request)
        waiting, residents = self._waiting, self._router.residents
        while waiting and not residents.full:
            request = waiting.popleft()
            self._in_hand = [request]
            self._scheduler.add(self._router.start(request), time.monotonic())

    def _step(self) -> None:
        now_s = time.monotonic()
        batch = self._scheduler.next_batch(now_s)
        self._in_hand = [unit.request for unit in batch]
        if not batch:
            return
        for unit in batch:
            if unit.request.started_s is None:
                unit.request.started_s = now_s
        stage, started_s = batch[0].stage, time.monotonic()
        try:
            moved = self._executor.run(batch)
        except ExeuntError as error:
            self._batch_failed(batch, error)
            return
        ended_s = time.monotonic()
        if self.trace is not None:
            self.trace.add(started_s, ended_s, batch, stage, self._scheduler.reason, moved.leaving)
        self._scheduler.add(moved.staying, ended_s)
        for unit, found in moved.leaving:
            self._scheduler.add(self._router.route(unit, found, ended_s), ended_s)
        self._in_hand = []
        spent = self._stats.step
        spent.steps += 1
        spent.schedule_s += started_s - now_s
        spent.route_s += time.monotonic() - ended_s

    def _batch_failed(self, batch: list[Unit], error: ExeuntError) -> None:
        if isinstance(error, SegmentError):
            self._retry_s = time.monotonic() + RETRY_S
        for unit in batch:
            fail(unit.request, error, self._stats, time.monotonic())
        self._in_hand = []

    def _recover(self) -> None:
        """After a failed segment, run the self-check once a second until it passes."""
        if self._retry_s is None or time.monotonic() < self._retry_s:
            return
        try:
            self._self_check()
            self._retry_s = None
        except Exception:  # as in a step, whatever a backend or its library lets through
            self._retry_s = time.monotonic() + RETRY_S

    def _abandon(self, error: Exception) -> None:
        """Fail every request that is left, in the queues, in hand and in the inbox."""
        left = {unit.request for unit in self._scheduler.drain()} | set(self._in_hand)
        left |= set(self._waiting)
        self._waiting.clear()
        while True:
            try:
                request = self._inbox.get_nowait()
            except Empty:
                break
            if request is not None:
                left.add(request)
        for request in left:
            fail(request, error, self._stats, time.monotonic())
        self._in_hand = []
