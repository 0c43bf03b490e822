"""Tickets: places are taken before work and given back exactly once."""

from collections.abc import Iterator
from concurrent.futures import wait
from threading import Thread
from typing import Any

import pytest

from exeunt.engine import Engine
from exeunt.engine.admission import Admission
from exeunt.engine.errors import ConfigError, InputError, QueueFull
from tests.engine.golden_manifests import uniter_nlvr2
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import Tensors, random_tensors
from tests.support.waiting import GatedBackend, eventually

MANIFEST = single_stream()
TENSORS = random_tensors(MANIFEST, 12)


def sample(place: int = 0) -> Tensors:
    return {name: array[place] for name, array in TENSORS.items()}


@pytest.fixture
def backend() -> GatedBackend:
    return GatedBackend()


@pytest.fixture
def engine(backend: GatedBackend) -> Iterator[Engine]:
    config = {"max_queued_rows": 4, "max_batch_rows": 2}
    with Engine.open(fake_bundle(MANIFEST), config, backend=backend) as opened:
        yield opened
        backend.gate.set()


def test_a_ticket_is_given_back_once(engine: Engine) -> None:
    ticket = engine.reserve(3)
    assert (engine.queued_rows, ticket.rows) == (3, 3)
    ticket.release()
    ticket.release()
    assert engine.queued_rows == 0
    with engine.reserve(2) as ticket:
        assert engine.queued_rows == 2
        ticket.release()
    assert engine.queued_rows == 0


def test_a_ticket_is_given_back_when_the_block_raises(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), engine.reserve(2):
        raise ZeroDivisionError
    assert engine.queued_rows == 0


def test_more_than_what_is_left_is_refused_and_takes_nothing(engine: Engine) -> None:
    with pytest.raises(QueueFull, match="send fewer samples in one request"):
        engine.reserve(5)
    with engine.reserve(3):
        with pytest.raises(QueueFull, match=r"3 of 4 places are taken and 2 were asked for.*retry"):
            engine.reserve(2)
        assert engine.queued_rows == 3
        with engine.reserve(1):
            assert engine.queued_rows == 4


@pytest.mark.parametrize("rows", [0, -1, -100])
def test_a_ticket_for_no_rows_is_refused(engine: Engine, rows: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        engine.reserve(rows)
    assert engine.queued_rows == 0


def test_a_ticket_serves_as_many_samples_as_it_holds(engine: Engine, backend: GatedBackend) -> None:
    ticket = engine.reserve(2)
    futures = [engine.submit_tensors(ticket, sample(place)) for place in range(2)]
    with pytest.raises(QueueFull, match="the ticket has 0 rows left"):
        engine.submit_tensors(ticket, sample())
    ticket.release()
    assert engine.queued_rows == 2, "the samples have the places until they end"
    backend.gate.set()
    for future in futures:
        future.result(timeout=20)
    assert engine.queued_rows == 0


def test_a_released_ticket_serves_no_more(engine: Engine) -> None:
    ticket = engine.reserve()
    ticket.release()
    with pytest.raises(QueueFull, match="reserve enough rows"):
        engine.submit_tensors(ticket, sample())
    assert engine.queued_rows == 0


def test_an_unused_part_of_a_ticket_is_given_back(engine: Engine, backend: GatedBackend) -> None:
    with engine.reserve(3) as ticket:
        future = engine.submit_tensors(ticket, sample())
        assert engine.queued_rows == 3
    assert engine.queued_rows == 1
    backend.gate.set()
    future.result(timeout=20)
    assert engine.queued_rows == 0


def test_a_refused_sample_leaves_the_ticket_as_it_was(
    engine: Engine, backend: GatedBackend
) -> None:
    with engine.reserve() as ticket:
        with pytest.raises(InputError):
            engine.submit_tensors(ticket, {})
        future = engine.submit_tensors(ticket, sample())
    backend.gate.set()
    future.result(timeout=20)


def test_never_more_rows_than_there_are_places(engine: Engine, backend: GatedBackend) -> None:
    admitted: list[object] = []
    refused: list[object] = []

    def client() -> None:
        for _ in range(50):
            try:
                ticket = engine.reserve(1)
            except QueueFull:
                refused.append(None)
            else:
                assert engine.queued_rows <= 4
                admitted.append(engine.submit_tensors(ticket, sample()))

    threads = [Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(admitted) + len(refused) == 200)
    assert len(admitted) == 4, "the gate is shut, so nothing left"
    backend.gate.set()
    for thread in threads:
        thread.join()
    eventually(lambda: engine.queued_rows == 0)


def test_a_caller_with_its_answer_finds_its_place_free(backend: GatedBackend) -> None:
    backend.gate.set()
    config = {"max_queued_rows": 1, "max_batch_rows": 1}
    with Engine.open(fake_bundle(MANIFEST), config, backend=backend) as engine:
        for _ in range(300):
            engine.run(random_tensors(MANIFEST, 1))


def test_a_cancelled_sample_gives_its_place_back_at_once(
    engine: Engine, backend: GatedBackend
) -> None:
    futures = []
    for place in range(4):
        with engine.reserve() as ticket:
            futures.append(engine.submit_tensors(ticket, sample(place)))
    assert engine.queued_rows == 4
    assert backend.entered.wait(20)
    for future in futures[:3]:
        assert future.cancel()
    assert engine.queued_rows == 1
    with engine.reserve(3) as ticket:
        others = [engine.submit_tensors(ticket, sample(place)) for place in range(3)]
    backend.gate.set()
    for future in (futures[3], *others):
        assert future.result(timeout=20).exit_layer == 6
    assert engine.queued_rows == 0


def test_a_sample_reserves_its_rows() -> None:
    manifest = uniter_nlvr2()
    bundle = fake_bundle(manifest)
    with pytest.raises(ConfigError, match="one sample has 2 rows"):
        Engine.open(bundle, {"backend": "fake", "max_queued_rows": 1})
    config = {"backend": "fake", "max_queued_rows": 6, "max_batch_rows": 6}
    with Engine.open(bundle, config) as engine:
        assert engine.rows_per_sample == 2
        with engine.reserve():
            assert engine.queued_rows == 2
        with pytest.raises(QueueFull, match="8 rows were asked for at once"):
            engine.run(random_tensors(manifest, 4))
        assert len(engine.run(random_tensors(manifest, 3))) == 3


@pytest.mark.parametrize("rows", [float("nan"), 1.5, "2"])
def test_places_are_whole_numbers(engine: Engine, rows: Any) -> None:
    with pytest.raises(InputError, match="whole number"):
        engine.reserve(rows)
    assert engine.queued_rows == 0


def test_a_cancelled_sample_wakes_whoever_waits_for_it() -> None:
    """A bare future that is cancelled would let `wait` sleep on."""
    backend = GatedBackend()
    with Engine.open(fake_bundle(MANIFEST), backend=backend) as engine:
        with engine.reserve(2) as ticket:
            futures = [engine.submit_tensors(ticket, sample(place)) for place in range(2)]
        assert futures[0].cancel()
        assert futures[0].cancel()
        assert wait(futures[:1], timeout=5).done == {futures[0]}
        backend.gate.set()
        assert wait(futures, timeout=20).not_done == set()


def test_a_released_ticket_does_not_grow() -> None:
    admission = Admission(4)
    ticket = admission.reserve(1)
    ticket.grow(2)
    assert (admission.taken, ticket.left) == (3, 3)
    with pytest.raises(QueueFull):
        ticket.grow(2)
    assert admission.taken == 3
    ticket.release()
    ticket.grow(2)
    assert (admission.taken, ticket.left) == (0, 0)
