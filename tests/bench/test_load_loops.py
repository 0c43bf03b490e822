"""The loops: how many are in flight, when sending happens, from when latency counts."""

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exeunt.bench.load import (
    EngineTarget,
    Reading,
    Reply,
    closed_loop,
    collecting,
    constant,
    measure,
    open_loop,
)
from exeunt.bench.load.arrivals import Schedule
from exeunt.bench.load.closed_loop import MAX_ERRORS_IN_A_ROW
from exeunt.bench.load.outcome import Done
from exeunt.engine import Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.exit_policy import never
from tests.support.manifests import fake_bundle, single_stream
from tests.support.waiting import GatedBackend

READING = Reading("cat", 0, 1, 2, 1, 2)
LABELS = ["cat"] * 8


class OneAtATime:
    """Answers one request at a time, in their order; each only when `full` are waiting.

    released: set when no more are to come: then it answers the rest. seen: the requests in flight
    at each end. sent: the samples, in order.
    """

    def __init__(self, full: int) -> None:
        self.released = Event()
        self.seen: list[int] = []
        self.sent: list[int] = []
        self._full = full
        self._waiting: SimpleQueue[tuple[float, Done]] = SimpleQueue()
        self._thread = Thread(target=self._answer, daemon=True)
        self._thread.start()

    def send(self, sample: int, done: Done) -> None:
        self.sent.append(sample)
        self._waiting.put((time.perf_counter(), done))

    def abandon(self) -> None:
        raise AssertionError("nothing takes too long here")

    def read(self, answer: object) -> Reading:
        assert answer == "an answer"
        return READING

    def generator_cpu_s(self) -> float:
        return time.thread_time()

    def _answer(self) -> None:
        while True:
            while self._waiting.qsize() < self._full and not self.released.is_set():
                time.sleep(0.0002)
            self.seen.append(self._waiting.qsize())
            sent_s, done = self._waiting.get()
            done(Reply(sent_s, time.perf_counter(), None, "an answer"))


def test_a_closed_loop_keeps_exactly_so_many_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    target = OneAtATime(full=5)
    drain = collecting.Collector.drain

    def release_and_drain(collector: collecting.Collector) -> None:
        assert collector.under_way in (4, 5)
        target.released.set()
        drain(collector)

    monkeypatch.setattr(collecting.Collector, "drain", release_and_drain)
    run = closed_loop(target, count(), in_flight=5, warm_up_s=0.1, seconds=0.3)
    served = len(run.outcomes)
    assert served > 10
    assert target.seen[: served - 5] == [5] * (served - 5)
    assert target.sent == list(range(served))
    assert all(o.scheduled_s == o.sent_s <= o.done_s for o in run.outcomes)


class Slow:
    """Blocks the sender for `delay_s`, as a generator that cannot keep up would be."""

    def __init__(self, delay_s: float, answer: object = "an answer", error: str | None = None):
        self._delay_s = delay_s
        self._reply = (error, answer)

    def send(self, sample: int, done: Done) -> None:
        sent_s = time.perf_counter()
        time.sleep(self._delay_s)
        done(Reply(sent_s, time.perf_counter(), *self._reply))

    def abandon(self) -> None:
        raise AssertionError("nothing takes too long here")

    def read(self, answer: object) -> Reading:
        if answer != "an answer":
            raise ValueError("unreadable")
        return READING

    def generator_cpu_s(self) -> float:
        return time.thread_time()


def test_latency_counts_from_the_scheduled_time() -> None:
    run = open_loop(Slow(0.02), constant(100.0, 0.2), cycle([0]), warm_up_s=0.0, seconds=0.2)
    assert len(run.outcomes) == 20
    for place, outcome in enumerate(run.outcomes):
        assert outcome.scheduled_s == pytest.approx(place / 100)
        # Sent one after the other, 20 ms each; scheduled every 10 ms.
        assert outcome.latency_s >= 0.02 * (place + 1) - place / 100 - 1e-3
    assert statistics.median(o.done_s - o.sent_s for o in run.outcomes) < 0.1
    found = measure(run, LABELS)
    assert found.lag is not None
    assert found.lag.most_ms >= 180
    assert any("the load generator was the bottleneck" in one for one in found.problems)


def test_a_trace_chooses_the_samples() -> None:
    target = OneAtATime(full=1)
    schedule = Schedule(np.array([0.0, 0.001, 0.002]), np.array([7, 5, 7]))
    open_loop(target, schedule, cycle([0]), warm_up_s=0.0, seconds=1.0)
    assert target.sent == [7, 5, 7]


def test_an_answer_that_cannot_be_read_is_an_error() -> None:
    run = open_loop(
        Slow(0.0, answer="?"), constant(10.0, 0.2), cycle([0]), warm_up_s=0.0, seconds=0.2
    )
    assert measure(run, LABELS).errors == {"unreadable_answer": 2}


def test_a_closed_loop_gives_up_when_everything_fails() -> None:
    run = closed_loop(
        Slow(0.0, error="connection"), cycle([0]), in_flight=2, warm_up_s=0.0, seconds=60.0
    )
    assert (
        run.gave_up == f"{MAX_ERRORS_IN_A_ROW} requests in a row failed, the last with connection"
    )
    found = measure(run, LABELS)
    assert found.errors["connection"] >= MAX_ERRORS_IN_A_ROW - 2
    assert "cut short" in found.problems[0]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., tuple[Engine, EngineTarget]]]:
    engines = []

    def open_(backend: FakeBackend | GatedBackend, **config: object) -> tuple[Engine, EngineTarget]:
        manifest = single_stream(1, 3, labels=("a", "b", "c"))
        engine = Engine.open(fake_bundle(manifest, tmp_path), config, backend=backend)
        engines.append(engine)
        tensors: dict[str, NDArray[Any]] = {
            "pixel_values": np.zeros((3, 8, 8), np.float32),
            "input_ids": np.ones(4, np.int64),
            "attention_mask": np.ones(4, np.int64),
        }
        return engine, EngineTarget(engine, [tensors], engine.compile(never()))

    yield open_
    for engine in engines:
        engine.close()


def test_an_open_loop_does_not_wait_for_a_slow_engine(
    opened: Callable[..., tuple[Engine, EngineTarget]],
) -> None:
    """Each request takes three segments of 10 ms, one at a time, and they come every 10 ms."""
    backend = FakeBackend()
    _, target = opened(backend, max_batch_rows=1, min_batch_rows=1)
    backend.delay_s = 0.01
    run = open_loop(target, constant(100.0, 0.2), cycle([0]), warm_up_s=0.0, seconds=0.2)
    assert len(run.outcomes) == 20
    assert all(outcome.error is None for outcome in run.outcomes)
    assert max(outcome.sent_s for outcome in run.outcomes) < 0.5  # served: 0.6 s at the least
    ends = sorted(outcome.done_s for outcome in run.outcomes)
    assert all(end_s >= 0.03 * (place + 1) for place, end_s in enumerate(ends))
    latencies_ms = measure(run, LABELS).latencies_ms
    assert latencies_ms[-1] >= 1e3 * (0.6 - 0.19)


def test_a_full_queue_is_an_error_of_its_own(
    opened: Callable[..., tuple[Engine, EngineTarget]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = GatedBackend(is_open=True)
    _, target = opened(backend, max_queued_rows=3, max_batch_rows=3)
    backend.gate.clear()
    send, sends = target.send, count(1)

    def send_and_open(sample: int, done: Done) -> None:
        send(sample, done)
        if next(sends) == 10:
            backend.gate.set()

    monkeypatch.setattr(target, "send", send_and_open)
    run = open_loop(target, constant(1000.0, 0.01), cycle([0]), warm_up_s=0.0, seconds=0.01)
    found = measure(run, LABELS)
    assert found.errors == {"queue_full": 7}
    assert found.answered == 3
    assert found.exits == {1: 3}


def test_what_takes_too_long_is_given_up(
    opened: Callable[..., tuple[Engine, EngineTarget]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "DRAIN_S", 0.05)
    backend = GatedBackend(is_open=True)
    engine, target = opened(backend)
    backend.gate.clear()
    run = closed_loop(target, cycle([0]), in_flight=4, warm_up_s=0.0, seconds=0.05)
    assert [outcome.error for outcome in run.outcomes] == ["timeout"] * 4
    assert engine.queued_rows == 0
    backend.gate.set()


def test_a_failing_segment_is_an_error(opened: Callable[..., tuple[Engine, EngineTarget]]) -> None:
    backend = FakeBackend()
    _, target = opened(backend)
    backend.failing.add("layer.01")
    run = open_loop(target, constant(100.0, 0.03), cycle([0]), warm_up_s=0.0, seconds=0.03)
    assert measure(run, LABELS).errors == {"segment_failed": 3}
