"""Many callers at once: every request ends exactly once, as if it had been alone."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from random import Random

import numpy as np
import pytest

from exeunt.engine import Answer, Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.errors import EngineStopped, QueueFull, RequestCancelled
from exeunt.engine.pending import Pending
from tests.engine.golden_manifests import xvlm_nlvr2
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import Tensors, random_tensors
from tests.support.waiting import GatedBackend, eventually

CLIENTS, REQUESTS = 32, 25
RULES = {
    "image": {"any": [{"criterion": "cosine", "threshold": 0.86}]},
    "fusion": {"any": [{"criterion": "entropy", "threshold": 0.3}]},
}


def exits(answer: Answer) -> dict[str, int]:
    return {name: lane.exit_layer for name, lane in answer.lanes.items()}


def test_clients_that_hammer_and_cancel() -> None:
    manifest = xvlm_nlvr2()
    tensors = random_tensors(manifest, 16)
    config = {
        "exit_policy": {"tasks": {"default": RULES}},
        "max_batch_rows": 8,
        "max_queued_rows": 2 * 24,
    }
    counts = {"answered": 0, "cancelled": 0, "refused": 0}
    lock = threading.Lock()
    with Engine.open(fake_bundle(manifest), config, backend=FakeBackend()) as engine:
        expected = engine.run(tensors)
        before = engine.stats.requests["answered"]

        def client(number: int) -> None:
            random = Random(number)
            for _ in range(REQUESTS):
                place = random.randrange(16)
                own = {name: array[place] for name, array in tensors.items()}
                outcome = one(own, expected[place], cancels=random.random() < 0.3)
                with lock:
                    counts[outcome] += 1

        def one(own: Tensors, right: Answer, *, cancels: bool) -> str:
            try:
                ticket = engine.reserve()
            except QueueFull:
                return "refused"
            ends: list[Pending] = []
            with ticket:
                future = engine.submit_tensors(ticket, own)
            future.add_done_callback(lambda done: ends.append(future))
            if cancels:
                future.cancel()
            try:
                answer = future.result(timeout=30)
            except CancelledError:
                return "cancelled"
            finally:
                eventually(lambda: len(ends) == 1)
            np.testing.assert_array_equal(answer.logits, right.logits)
            assert exits(answer) == exits(right)
            return "answered"

        with ThreadPoolExecutor(CLIENTS) as pool:
            jobs = [pool.submit(client, number) for number in range(CLIENTS)]
            wait(jobs, timeout=60)
        for job in jobs:
            job.result(timeout=0)
        assert engine.queued_rows == 0
        assert sum(counts.values()) == CLIENTS * REQUESTS
        assert counts["answered"] > 0
        eventually(lambda: engine.stats.requests["answered"] - before == counts["answered"])
        eventually(lambda: engine.waiting_rows() == {})
        assert engine.ready


def test_a_future_ends_once_whoever_is_first() -> None:
    answer = RuntimeError("stands for an answer")
    for _ in range(200):
        future = Pending()
        ends: list[object] = []
        future.add_done_callback(ends.append)
        barrier = threading.Barrier(3)

        def race(action: object, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return bool(action())  # type: ignore[operator]

        with ThreadPoolExecutor(3) as pool:
            outcomes = [
                pool.submit(race, future.cancel),
                pool.submit(race, lambda future=future: future.fail(answer)),
                pool.submit(race, lambda future=future: future.fail(RequestCancelled("gone"))),
            ]
        assert sum(outcome.result() for outcome in outcomes) == 1
        assert len(ends) == 1
        assert future.done()


def test_a_caller_may_cancel_until_the_answer_is_there() -> None:
    manifest, backend = single_stream(), GatedBackend()
    with Engine.open(fake_bundle(manifest), backend=backend) as engine:
        own = {name: array[0] for name, array in random_tensors(manifest, 1).items()}
        with engine.reserve() as ticket:
            future = engine.submit_tensors(ticket, own)
        assert backend.entered.wait(20)
        assert not future.running()
        assert future.cancel()
        backend.gate.set()
        with engine.reserve() as ticket:
            other = engine.submit_tensors(ticket, own)
        other.result(timeout=20)
        assert not other.cancel(), "too late"
        assert other.result(timeout=0).exit_layer == 6


def test_a_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    manifest, backend = single_stream(), GatedBackend()

    def broken(_: object) -> None:
        raise ZeroDivisionError

    with Engine.open(fake_bundle(manifest), backend=backend) as engine:
        own = {name: array[0] for name, array in random_tensors(manifest, 1).items()}
        futures = []
        for _ in range(3):
            with engine.reserve() as ticket:
                futures.append(engine.submit_tensors(ticket, own))
        futures[0].add_done_callback(broken)
        backend.gate.set()
        for future in futures:
            assert future.result(timeout=20).exit_layer == 6
        assert engine.alive
    assert "ZeroDivisionError" in caplog.text


def test_closing_while_clients_submit_ends_every_request() -> None:
    manifest = single_stream()
    tensors = random_tensors(manifest, 1)
    own = {name: array[0] for name, array in tensors.items()}
    for _ in range(10):
        engine = Engine.open(fake_bundle(manifest), backend=FakeBackend(delay_s=0.0005))
        started = threading.Event()
        ended: list[str] = []

        def client(engine: Engine = engine, ended: list[str] = ended) -> None:
            while True:
                try:
                    with engine.reserve() as ticket:
                        future = engine.submit_tensors(ticket, own)
                    started.set()  # noqa: B023 (each round waits for its own clients)
                    future.result(timeout=20)
                except EngineStopped:
                    ended.append("stopped")
                    return

        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert started.wait(20)
        engine.close()
        for thread in threads:
            thread.join(20)
        assert ended == ["stopped"] * 4
        assert engine.queued_rows == 0
