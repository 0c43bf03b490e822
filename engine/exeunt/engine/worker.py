"""The engine's streams: threads that take requests in and step until there is nothing to do."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread

from exeunt.engine.errors import EngineStopped, ExeuntError, SegmentError
from exeunt.engine.lanes.request import Request
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.scheduling.policy import Reason
from exeunt.engine.scheduling.scheduler import Scheduler
from exeunt.engine.stats import EngineStats
from exeunt.engine.step.executor import Executor, Moved
from exeunt.engine.step.routing import Router, fail
from exeunt.engine.trace import Trace

RETRY_S = 1.0  # between attempts to run the segments again after one failed


class Worker:
    """Owns the scheduler and steps in one thread for each stream.

    Streams share the scheduler, the router and the counters, one at a time under a lock; batches
    run outside it, each in its stream's own memory. A segment that fails ends the requests of its
    batch at once and makes the engine unhealthy until `self_check` passes again. Anything else that
    escapes a step ends every stream and every request.

    executors: one for each stream.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executors: Sequence[Executor],
        router: Router,
        stats: EngineStats,
        self_check: Callable[[], None],
    ) -> None:
        self.trace: Trace | None = None  # set from outside while somebody records
        self._scheduler = scheduler
        self._router = router
        self._waiting: deque[Request] = deque()  # until the slabs have room
        self._stats = stats
        self._self_check = self_check
        self._inbox: SimpleQueue[Request | None] = SimpleQueue()  # None wakes a stream
        self._lock = Lock()  # of all that the streams share
        self._sleeping = 0
        # Of each stream: taken from a queue and not yet put into the next.
        self._in_hand: list[list[Request]] = [[] for _ in executors]
        self._retry_s: float | None = None
        self._closing = False
        self._closed = False  # nothing enters the inbox any more; guarded by the door
        self._door = Lock()
        self._dead: BaseException | None = None
        self._left = len(executors)  # streams that have not ended
        self._threads = [
            Thread(target=self._main, args=(place, one), name=f"exeunt-engine-{place}", daemon=True)
            for place, one in enumerate(executors)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the streams run and no segment is known to fail."""
        alive = all(thread.is_alive() for thread in self._threads)
        return alive and self._dead is None and self._retry_s is None

    @property
    def dead(self) -> BaseException | None:
        """What ended the streams; None while they run or after an orderly close."""
        return self._dead

    @property
    def closed(self) -> bool:
        """Whether `close` was called or the streams are gone: nothing new is taken in."""
        return self._closing or self._closed

    @property
    def waiting(self) -> int:
        """Requests that wait until a stream has time for them and the slabs have room."""
        return len(self._waiting) + self._inbox.qsize()

    @property
    def scheduler(self) -> Scheduler:
        """The queues, for counting what waits."""
        return self._scheduler

    def submit(self, request: Request) -> None:
        """Hand a request to the streams; fails it at once when they are gone."""
        with self._door:
            open_ = not self._closed
            if open_:
                self._inbox.put(request)
        if not open_:
            fail(request, self.stopped(), self._stats, time.monotonic())

    def close(self, timeout_s: float | None = None) -> None:
        """Stop the streams after the steps they are in; requests that are left fail."""
        self._stop()
        if current_thread() not in self._threads:  # a future's callback may close the engine
            for thread in self._threads:
                thread.join(timeout_s)

    def stopped(self) -> EngineStopped:
        """Return the error for whoever comes too late."""
        if self._dead is not None:
            return EngineStopped(f"the engine has died ({self._dead}): restart the server")
        return EngineStopped("the engine is closed: send the request to another replica")

    def _main(self, place: int, executor: Executor) -> None:
        try:
            while not self._closing:
                now_s = time.monotonic()
                with self._lock:
                    batch, reason = self._next_batch(place)
                if batch:
                    self._step(place, executor, batch, reason, now_s)
                elif not self._closing:
                    self._sleep()
        except BaseException as error:  # the stream's last word: every caller must hear of it
            self._dead = self._dead or error
            self._stop()
        self._inbox.put(None)  # the next one's call to end, if this one took it
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            with self._door:
                self._closed = True
            self._abandon(self.stopped())

    def _stop(self) -> None:
        self._closing = True
        for _ in self._threads:
            self._inbox.put(None)

    def _next_batch(self, place: int) -> tuple[list[Unit], Reason]:
        """Take requests in; return what this stream runs next, and why. Wake another for the rest.

        Waking comes last: this stream would take the token out of the inbox itself.
        """
        self._take_in(place)
        self._recover()
        batch = self._scheduler.next_batch(time.monotonic(), self._sleeping + 1)
        # Dropping who has left may leave others without the result that they waited for.
        while not batch and (entering := self._router.adopt()):
            self._scheduler.add(entering, time.monotonic())
            batch = self._scheduler.next_batch(time.monotonic(), self._sleeping + 1)
        self._in_hand[place] = [unit.request for unit in batch]
        for unit in batch:
            unit.in_step = True
        if self._sleeping and not self._scheduler.idle:
            self._inbox.put(None)
        return batch, self._scheduler.reason

    def _take_in(self, place: int) -> None:
        """Take new requests in, as many as the slabs have room for."""
        while True:
            try:
                request = self._inbox.get_nowait()
            except Empty:
                break
            if request is not None:
                self._waiting.append(request)
        self._router.drop_abandoned()
        self._scheduler.add(self._router.adopt(), time.monotonic())
        waiting, residents = self._waiting, self._router.residents
        while waiting and waiting[0].abandoned:
            waiting.popleft().let_go()
        while waiting and residents.fits(waiting[0]):
            request = waiting.popleft()
            self._in_hand[place] = [request]
            self._scheduler.add(self._router.start(request), time.monotonic())

    def _sleep(self) -> None:
        """Sleep until a request comes or another stream has found work for two."""
        with self._lock:
            if not self._scheduler.idle:  # another stream has moved units on meanwhile
                return
            # Callers that leave together can empty the queues while others wait for their places.
            if self._waiting and self._router.residents.fits(self._waiting[0]):
                return
            self._sleeping += 1
        try:
            request = self._inbox.get(timeout=None if self._retry_s is None else RETRY_S)
        except Empty:
            request = None
        with self._lock:
            self._sleeping -= 1
            if request is not None:
                self._waiting.append(request)

    def _step(
        self, place: int, executor: Executor, batch: list[Unit], reason: Reason, chosen_s: float
    ) -> None:
        started_s = time.monotonic()
        for unit in batch:
            if unit.request.started_s is None:
                unit.request.started_s = started_s
        try:
            moved = executor.run(batch)
        except ExeuntError as error:
            with self._lock:
                self._batch_failed(place, batch, error)
            return
        ended_s = time.monotonic()
        with self._lock:
            if self.trace is not None:
                self._record(self.trace, batch, reason, moved, place)
            self._move(batch, moved, ended_s)
            self._in_hand[place] = []
            self._stats.step.schedule_s += started_s - chosen_s
            self._stats.step.route_s += time.monotonic() - ended_s

    def _move(self, batch: list[Unit], moved: Moved, now_s: float) -> None:
        """Let the units of a batch wait for their next stages, leave, or be let go of."""
        _end_step(batch)
        self._scheduler.add_alike(moved.staying, now_s)
        if moved.leaving:
            route = self._router.route
            going = [other for one in moved.leaving for other in route(*one, now_s)]
            self._scheduler.add(going, now_s)
        lane, rows = batch[0].lane, len(batch) * batch[0].rows
        for done in moved.passes:
            ran = lane.stages[done.place]
            self._stats.batch_done(ran.name, lane.name, ran.layer, rows, done.times)

    @staticmethod
    def _record(trace: Trace, batch: list[Unit], reason: Reason, moved: Moved, stream: int) -> None:
        last = moved.passes[-1]
        for done in moved.passes:
            leaving = moved.leaving if done is last else []
            trace.add(done.started_s, done.ended_s, batch, done.place, reason, leaving, stream)

    def _batch_failed(self, place: int, batch: list[Unit], error: ExeuntError) -> None:
        if isinstance(error, SegmentError):
            self._retry_s = time.monotonic() + RETRY_S
        _end_step(batch)
        for unit in batch:
            fail(unit.request, error, self._stats, time.monotonic())
        self._in_hand[place] = []

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
        left = {unit.request for unit in self._scheduler.drain()} | set(self._waiting)
        left.update(*self._in_hand, self._router.waiting())
        self._waiting.clear()
        while True:
            try:
                request = self._inbox.get_nowait()
            except Empty:
                break
            if request is not None:
                left.add(request)
        for request in left:
            for unit in request.units:
                unit.in_step = False
            fail(request, error, self._stats, time.monotonic())
        self._in_hand.clear()


def _end_step(batch: Sequence[Unit]) -> None:
    """Give the units of a batch free; let go of requests that ended while they were in it."""
    for unit in batch:
        unit.in_step = False
    for unit in batch:
        if unit.request.ending:
            unit.request.let_go()
