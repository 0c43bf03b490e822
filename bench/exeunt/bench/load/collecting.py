"""Gathering the replies of a run: what both loops share."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from exeunt.bench.load.outcome import Outcome, Reading, Reply, Target

DRAIN_S = 60.0  # how long a run waits for what is under way when it has stopped sending
LAST_WORDS_S = 10.0  # and then for abandoned requests to say so

Sent = tuple[int, float | None]  # the sample, and when it was due: seconds from the start


class Collector:
    """Sends requests to a target and collects how they end.

    start_s: the run's start, of `time.perf_counter`.
    """

    def __init__(self, target: Target, start_s: float) -> None:
        self._target = target
        self._start_s = start_s
        self._ended: SimpleQueue[tuple[Sent, Reply]] = SimpleQueue()
        self._under_way = 0
        self._replies: list[tuple[Sent, Reply]] = []

    @property
    def under_way(self) -> int:
        """Requests that were sent and whose end was not taken yet."""
        return self._under_way

    def send(self, sample: int, due_s: float | None = None) -> None:
        """Send one request. due_s: when it was scheduled, from the start; None for now."""
        self._under_way += 1
        sent = (sample, due_s)
        self._target.send(sample, lambda reply: self._ended.put((sent, reply)))

    def take(self, timeout_s: float) -> Reply | None:
        """Return the next reply; None when none came in time."""
        try:
            ended = self._ended.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None
        self._replies.append(ended)
        self._under_way -= 1
        return ended[1]

    def drain(self) -> None:
        """Wait for what is under way, and give up what takes too long."""
        self._take_until(time.perf_counter() + DRAIN_S)
        if self._under_way:
            self._target.abandon()
            self._take_until(time.perf_counter() + LAST_WORDS_S)
        assert not self._under_way, "the target did not end every request exactly once"

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return every request's outcome, in the order they ended."""
        return tuple(self._outcome(sent, reply) for sent, reply in self._replies)

    def _take_until(self, deadline_s: float) -> None:
        while self._under_way and self.take(deadline_s - time.perf_counter()) is not None:
            pass

    def _outcome(self, sent: Sent, reply: Reply) -> Outcome:
        sample, due_s = sent
        sent_s = reply.sent_s - self._start_s
        error, reading = reply.error, None
        if error is None:
            reading = self._reading(reply)
            error = None if reading else "unreadable_answer"
        return Outcome(
            sample=sample,
            scheduled_s=sent_s if due_s is None else due_s,
            sent_s=sent_s,
            done_s=reply.done_s - self._start_s,
            error=error,
            reading=reading,
        )

    def _reading(self, reply: Reply) -> Reading | None:
        try:
            return self._target.read(reply.answer)
        except ValueError:
            return None


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage now and not during a run.

    The outcomes that a run piles up would be walked again and again: pauses that are the bench's
    own, and in process would be counted against the engine.
    """
    gc.collect()
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
