"""Streams: batches that run at once, and what they may not do to each other."""

from concurrent.futures import wait
from itertools import pairwise
from threading import Barrier

import pytest

from exeunt.engine import Engine
from exeunt.engine.backends.base import LoadedSegment, Tensors
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import ConfigError, EngineStopped, SegmentError
from exeunt.engine.lanes.slab import LaneSlab
from exeunt.engine.pending import Pending
from exeunt.engine.step.executor import Executor
from tests.engine.golden_manifests import xvlm_vqa
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors
from tests.support.waiting import GatedBackend, eventually

MANIFEST = single_stream(layers=4)
TENSORS = random_tensors(MANIFEST, 12)
TWO = {"streams": 2, "threads": 2}


def submit(engine: Engine, count: int) -> list[Pending]:
    with engine.reserve(count * engine.rows_per_sample) as ticket:
        return [
            engine.submit_tensors(ticket, {name: a[place] for name, a in TENSORS.items()})
            for place in range(count)
        ]


def test_two_batches_run_at_once_and_the_trace_tells_their_streams_apart() -> None:
    together = Barrier(2, timeout=20)

    class Meeting(GatedBackend):
        def load(self, manifest: object, root: object, segment: str) -> LoadedSegment:
            inner = super().load(manifest, root, segment)  # type: ignore[arg-type]  # passed on
            return _Meeting(inner) if segment == "embed" else inner

    class _Meeting:
        def __init__(self, inner: LoadedSegment) -> None:
            self._inner = inner
            self.bind = inner.bind

        def run(self, inputs: Tensors) -> Tensors:
            together.wait()  # breaks, and the engine fails, where one waits for the other's end
            return self._inner.run(inputs)

    config = {**TWO, "max_batch_rows": 1, "warm_up": False}
    with Engine.open(fake_bundle(MANIFEST), config, backend=Meeting(is_open=True)) as engine:
        trace = engine.start_trace()
        answers = [future.result(timeout=20) for future in submit(engine, 2)]
    assert {batch.stream for batch in trace.batches if batch.layer == 0} == {0, 1}
    for stream in (0, 1):
        own = [batch for batch in trace.batches if batch.stream == stream]
        for one, after in pairwise(sorted(own, key=lambda batch: batch.started_s)):
            assert one.ended_s <= after.started_s
    assert [answer.exit_layer for answer in answers] == [4, 4]


def test_a_slot_is_kept_while_another_stream_writes_to_it() -> None:
    """A request fails in one lane while its unit in another lane is in a step."""
    manifest = xvlm_vqa()
    backend = GatedBackend()
    image, text = (manifest.lane(name).entry for name in ("image", "text"))
    with Engine.open(
        fake_bundle(manifest), {**TWO, "max_batch_rows": 8, "warm_up": False}, backend=backend
    ) as engine:
        assert image is not None
        assert text is not None
        stuck, failing = backend.hold(image), backend.hold(text)
        tensors = random_tensors(manifest, 1)
        with engine.reserve() as ticket:
            future = engine.submit_tensors(ticket, {name: a[0] for name, a in tensors.items()})
        backend.raising[text] = RuntimeError("broken")
        backend.gate.set()
        eventually(stuck.entered.is_set)
        failing.gate.set()
        assert isinstance(future.exception(timeout=20), SegmentError)
        assert engine.resident_requests == 1
        assert engine.used_slots == 1
        stuck.gate.set()
        eventually(lambda: engine.resident_requests == 0)
        assert engine.used_slots == 0


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), SystemExit(3)])
def test_a_stream_that_dies_ends_them_all(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken(*_: object) -> None:
        raise error

    backend = GatedBackend(is_open=True)
    with Engine.open(
        fake_bundle(MANIFEST), {**TWO, "max_batch_rows": 2}, backend=backend
    ) as engine:
        monkeypatch.setattr(Executor, "run", broken)
        for future in submit(engine, 9):
            with pytest.raises(EngineStopped, match=r"has died.*restart"):
                future.result(timeout=20)
        assert not engine.ready
        assert not engine.alive
        eventually(lambda: engine.queued_rows == 0)


def test_closing_from_a_callback_ends_both_streams() -> None:
    engine = Engine.open(fake_bundle(MANIFEST), {**TWO, "backend": "fake", "max_batch_rows": 1})
    futures = submit(engine, 6)
    futures[0].add_done_callback(lambda _: engine.close())
    assert not wait(futures, timeout=20).not_done
    eventually(lambda: not engine.ready)
    with pytest.raises(EngineStopped):
        engine.reserve()


def test_an_idle_engine_closes_at_once() -> None:
    with Engine.open(fake_bundle(MANIFEST), {**TWO, "backend": "fake"}) as engine:
        assert engine.ready
    assert engine.alive
    assert not engine.ready


def test_two_streams_make_one_memory_of_a_state() -> None:
    slab = LaneSlab(4, 1)
    assert slab.state("hidden", (3,), "float32") is slab.state("hidden", (3,), "float32")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"threads": 2, "streams": 3}, "streams is 3, and 2 .*set streams to 2"),
        ({"threads": 1, "streams": 2}, "streams is 2, and 1 .*set streams to 1"),
        ({"streams": 0}, "at streams"),
    ],
)
def test_streams_that_do_not_fit_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Engine.open(fake_bundle(MANIFEST), {"backend": "fake", **settings})


def test_more_streams_hold_more_rows_under_way() -> None:
    assert EngineConfig(max_batch_rows=8).resident_rows == 64
    assert EngineConfig(max_batch_rows=8, streams=2).resident_rows == 80
