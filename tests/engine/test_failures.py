"""Failing segments, answers that are not numbers, and a thread that dies: who hears of it, when."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from exeunt.engine import Engine, ExitPolicy
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.errors import (
    EngineStopped,
    ModelOutputInvalid,
    QueueFull,
    SegmentError,
)
from exeunt.engine.pending import Pending
from exeunt.engine.step.executor import Executor
from tests.engine.golden_manifests import clip, uniter_nlvr2
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import Tensors, random_tensors
from tests.support.waiting import GatedBackend, eventually

MANIFEST = single_stream(layers=4)
TENSORS = random_tensors(MANIFEST, 12)
DUAL = clip()


def sample(place: int = 0) -> Tensors:
    return {name: array[place] for name, array in TENSORS.items()}


def submit(engine: Engine, place: int = 0) -> Pending:
    with engine.reserve() as ticket:
        return engine.submit_tensors(ticket, sample(place))


@pytest.fixture
def backend() -> GatedBackend:
    return GatedBackend()


@pytest.fixture
def engine(backend: GatedBackend) -> Iterator[Engine]:
    bundle = fake_bundle(MANIFEST)
    with Engine.open(bundle, {"max_batch_rows": 2}, backend=backend) as opened:
        yield opened
        backend.gate.set()


def test_a_failing_segment_ends_only_the_samples_of_its_batch(
    engine: Engine, backend: GatedBackend
) -> None:
    others = [submit(engine, place) for place in range(2)]
    assert backend.entered.wait(20)
    # These two fail in an exit head, which the others' policy never asks for; being longer, they
    # share no batch with them.
    rules = {"joint": {"any": [{"criterion": "entropy", "threshold": 0.0, "min_layer": 2}]}}
    policy = engine.compile(ExitPolicy.model_validate({"tasks": {"default": rules}}))
    longer = random_tensors(MANIFEST, 2, {"T": 9})
    with engine.reserve(2) as ticket:
        failing = [
            engine.submit_tensors(
                ticket, {name: a[place] for name, a in longer.items()}, exit_policy=policy
            )
            for place in range(2)
        ]
    backend.inner.failing.add("head.02")
    backend.gate.set()
    for future in failing:
        with pytest.raises(SegmentError, match=r"head\.02"):
            future.result(timeout=20)
    for future in others:
        assert future.result(timeout=20).exit_layer == 4
    assert engine.queued_rows == 0


def test_readiness_goes_off_at_once_and_comes_back(
    engine: Engine, backend: GatedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exeunt.engine.worker.RETRY_S", 0.02)
    backend.gate.set()
    assert engine.ready
    backend.inner.failing.add("layer.03")
    with pytest.raises(SegmentError):
        submit(engine).result(timeout=20)
    assert not engine.ready, "readiness is off by the time the caller hears of the failure"
    with pytest.raises(SegmentError):
        submit(engine).result(timeout=20)
    backend.inner.failing.clear()
    eventually(lambda: engine.ready)
    assert submit(engine).result(timeout=20).exit_layer == 4


def test_readiness_stays_off_while_the_self_check_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exeunt.engine.worker.RETRY_S", 0.01)
    bundle = fake_bundle(single_stream(with_inputs=True), tmp_path)
    backend = GatedBackend(is_open=True)
    with Engine.open(bundle, backend=backend) as engine:
        backend.raising["layer.02"] = RuntimeError("out of memory")
        with pytest.raises(SegmentError, match="out of memory"):
            engine.run(random_tensors(bundle.manifest, 1))
        checks = len(backend.inner.calls)
        eventually(lambda: len(backend.inner.calls) > checks + 3)
        assert not engine.ready
        assert engine.alive, "a failing self-check does not end the thread"
        backend.raising.clear()
        eventually(lambda: engine.ready)
        assert len(engine.run(random_tensors(bundle.manifest, 2))) == 2


def test_a_foreign_error_of_a_backend_is_a_segment_error(
    engine: Engine, backend: GatedBackend
) -> None:
    backend.gate.set()
    backend.raising["layer.01"] = ValueError("CUDA error 700")
    with pytest.raises(SegmentError, match=r"layer\.01.*CUDA error 700"):
        submit(engine).result(timeout=20)
    assert engine.alive


def test_a_segment_that_fails_in_one_lane_takes_the_sample_out_of_the_others() -> None:
    backend = FakeBackend()
    backend.failing.add("vision.02")
    with Engine.open(fake_bundle(DUAL), backend=backend) as engine:
        with pytest.raises(SegmentError, match=r"vision\.02"):
            engine.run(random_tensors(DUAL, 3))
        eventually(lambda: engine.queued_rows == 0)
        backend.failing.clear()
        assert len(engine.run(random_tensors(DUAL, 3))) == 3
        assert engine.waiting_rows() == {}


@pytest.mark.parametrize("criterion", ["entropy", "patience", "confidence", "margin", "cosine"])
def test_an_answer_that_is_no_number_never_leaves_early(criterion: str) -> None:
    backend = FakeBackend()
    backend.invalid |= {"head.01", "head.02"}
    threshold = {"entropy": 99.0, "patience": 1, "confidence": 0.0, "margin": 0.0, "cosine": -1.0}
    rule = {"criterion": criterion, "threshold": threshold[criterion]}
    policy = {"tasks": {"default": {"joint": {"any": [rule]}}}}
    with Engine.open(fake_bundle(MANIFEST), {"exit_policy": policy}, backend=backend) as engine:
        answers = engine.run(TENSORS)
    # The streak of patience starts anew behind the answers that were none.
    expected = 4 if criterion == "patience" else 3
    assert {answer.exit_layer for answer in answers} == {expected}
    assert all(np.isfinite(answer.logits).all() for answer in answers)


@pytest.mark.parametrize("policy", ["never", "entropy", "cosine"])
def test_at_full_depth_such_an_answer_is_an_error_of_its_own_row(policy: str) -> None:
    backend = FakeBackend()
    backend.invalid |= {f"head.0{layer}" for layer in range(1, 5)}
    rules = {"joint": {"any": [{"criterion": policy, "threshold": 0.9}]}}
    config = {"exit_policy": {"tasks": {"default": rules if policy != "never" else {}}}}
    with Engine.open(fake_bundle(MANIFEST), config, backend=backend) as engine:
        with pytest.raises(ModelOutputInvalid, match=r"layer 4: check the checkpoint"):
            engine.run(TENSORS)
        assert engine.ready, "a bad answer is no bad segment"
        assert engine.queued_rows == 0
        backend.invalid.clear()
        assert len(engine.run(TENSORS)) == 12


def kill(engine: Engine, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the engine's next step meet an error that is none of ours."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(Executor, "run", broken)


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), SystemExit(3), KeyboardInterrupt()])
def test_a_dead_thread_fails_every_sample_also_those_in_the_queue(
    engine: Engine,
    backend: GatedBackend,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    futures = [submit(engine, place) for place in range(5)]
    assert backend.entered.wait(20)
    kill(engine, monkeypatch, error)
    futures += [submit(engine, place) for place in range(5, 9)]
    backend.gate.set()
    for future in futures:
        with pytest.raises(EngineStopped, match=r"has died.*restart"):
            future.result(timeout=20)
    assert not engine.ready
    assert not engine.alive
    assert engine.queued_rows == 0
    with pytest.raises(EngineStopped, match="has died"):
        engine.reserve()
    engine.close()


def test_a_ticket_from_before_the_death_ends_in_an_error(
    engine: Engine, backend: GatedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = engine.reserve(2)
    kill(engine, monkeypatch, ZeroDivisionError("a bug"))
    backend.gate.set()
    first = engine.submit_tensors(ticket, sample())
    with pytest.raises(EngineStopped):
        first.result(timeout=20)
    eventually(lambda: not engine.alive)
    with pytest.raises(EngineStopped):
        engine.submit_tensors(ticket, sample()).result(timeout=20)
    assert engine.queued_rows == 0


def test_closing_ends_what_is_under_way(engine: Engine, backend: GatedBackend) -> None:
    futures = [submit(engine, place) for place in range(6)]
    assert backend.entered.wait(20)
    ticket = engine.reserve()
    engine._worker._closing = True  # as `close` does first; it then waits for the step to end
    backend.gate.set()
    engine.close()
    for future in futures:
        with pytest.raises(EngineStopped, match="closed"):
            future.result(timeout=20)
    assert not engine.ready
    with pytest.raises(EngineStopped, match="another replica"):
        engine.submit_tensors(ticket, sample()).result(timeout=20)
    with pytest.raises(EngineStopped):
        engine.reserve()
    assert engine.queued_rows == 0
    engine.close()


def test_a_callback_may_close_the_engine(
    engine: Engine, backend: GatedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    pending = submit(engine)
    pending.add_done_callback(lambda _: engine.close())
    backend.gate.set()
    eventually(lambda: not engine.ready)
    assert not caplog.records  # where concurrent.futures tells what a callback raised


def test_a_group_fails_and_ends_as_one() -> None:
    manifest, backend = uniter_nlvr2(), FakeBackend()
    backend.invalid |= {"final"}
    with Engine.open(fake_bundle(manifest), backend=backend) as engine:
        with pytest.raises(ModelOutputInvalid):
            engine.run(random_tensors(manifest, 2))
        assert engine.queued_rows == 0


def test_errors_are_counted_by_type(engine: Engine, backend: GatedBackend) -> None:
    backend.gate.set()
    backend.inner.failing.add("layer.03")
    with pytest.raises(SegmentError):
        submit(engine).result(timeout=20)
    eventually(lambda: engine.stats.requests == {"segment_failed": 1})


def test_a_full_queue_refuses_at_once(backend: GatedBackend) -> None:
    config = {"max_queued_rows": 2, "max_batch_rows": 2}
    with Engine.open(fake_bundle(MANIFEST), config, backend=backend) as engine:
        futures = [submit(engine, place) for place in range(2)]
        with pytest.raises(QueueFull):
            submit(engine)
        backend.gate.set()
        assert [future.result(timeout=20).exit_layer for future in futures] == [4, 4]
        assert submit(engine).result(timeout=20).exit_layer == 4


def test_a_cancelled_sample_takes_no_further_step(engine: Engine, backend: GatedBackend) -> None:
    futures = [submit(engine, place) for place in range(2)]
    assert backend.entered.wait(20)
    for future in futures:
        assert future.cancel()
        with pytest.raises(CancelledError):
            future.result(timeout=0)
    backend.gate.set()
    assert submit(engine).result(timeout=20).exit_layer == 4
    rows = [sum(backend.rows_by_call(f"layer.0{layer}")) for layer in range(1, 5)]
    assert rows[1:] == [1, 1, 1], "at most the step that was under way"
    eventually(lambda: engine.waiting_rows() == {})


def test_a_library_does_not_log_what_it_raises(capfd: pytest.CaptureFixture[str]) -> None:
    with Engine.open() as engine:
        specs = engine.manifest.tensors
        tensors = {
            name: np.full(
                (1, *(size if isinstance(size, int) else 8 for size in spec.shape)), 99_999
            ).astype(spec.dtype)
            for name, spec in specs.items()
        }
        with pytest.raises(SegmentError):
            engine.run(tensors)
    assert capfd.readouterr().err == ""
