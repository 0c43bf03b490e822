"""The slab: as many rows under way as it has slots, each given back once, whatever happens."""

import numpy as np
import pytest

from exeunt.engine import Engine
from exeunt.engine.lanes.slab import LaneSlab
from tests.engine.golden_manifests import uniter_nlvr2, xvlm_vqa
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors
from tests.support.waiting import GatedBackend, eventually


def test_slots_are_handed_out_once() -> None:
    slab = LaneSlab(3, 2)
    slots = [slab.take() for _ in range(3)]
    assert sorted(slots) == [0, 1, 2]
    slab.streaks[slots[1]] = 5
    slab.give_back(slots[1])
    assert slab.used == 2
    assert slab.take() == slots[1]
    assert slab.streaks[slots[1]] == 0
    assert slab.state("hidden", (4, 5), np.float32).shape == (3, 2, 4, 5)
    assert slab.slot_bytes == 2 * 4 * 5 * 4


def test_no_more_rows_are_under_way_than_the_slab_holds() -> None:
    manifest = single_stream()
    backend = GatedBackend()
    config = {"max_batch_rows": 4, "max_resident_rows": 6}
    with Engine.open(fake_bundle(manifest), config, backend=backend) as engine:
        tensors = random_tensors(manifest, 1)
        sample = {name: array[0] for name, array in tensors.items()}
        with engine.reserve(40) as ticket:
            futures = [engine.submit_tensors(ticket, sample) for _ in range(40)]
        eventually(backend.entered.is_set)
        assert engine.waiting_rows()["joint", 0] >= 30
        for future in futures[10:20]:
            future.cancel()
        backend.gate.set()
        for future in futures[:10] + futures[20:]:
            assert future.result(timeout=20).exit_layer == 6
        eventually(lambda: engine.resident_requests == 0)
        assert max(backend.rows_by_call("embed")) <= 4


@pytest.mark.parametrize("contents", [uniter_nlvr2(), xvlm_vqa()], ids=["groups", "lanes"])
@pytest.mark.parametrize("failing", [False, True])
def test_every_slot_is_given_back(contents: object, failing: bool) -> None:
    backend = GatedBackend(is_open=True)
    bundle = fake_bundle(contents)  # type: ignore[arg-type]  # a manifest
    with Engine.open(bundle, {"max_batch_rows": 8}, backend=backend) as engine:
        if failing:
            name = engine.manifest.lanes[-1].layers[0]
            backend.raising[name] = RuntimeError("broken")
        tensors = random_tensors(engine.manifest, 12)
        with engine.reserve(12 * engine.rows_per_sample) as ticket:
            futures = [
                engine.submit_tensors(ticket, {name: a[place] for name, a in tensors.items()})
                for place in range(12)
            ]
        futures[5].cancel()
        for future in futures[:5] + futures[6:]:
            assert (future.exception(timeout=20) is not None) == failing
        eventually(lambda: engine.resident_requests == 0)
        eventually(lambda: engine.used_slots == 0)


def test_whoever_waits_enters_when_all_others_have_left() -> None:
    """No further request comes that would wake the engine."""
    manifest = single_stream()
    backend = GatedBackend()
    config = {"max_batch_rows": 4, "max_resident_rows": 4}
    with Engine.open(fake_bundle(manifest), config, backend=backend) as engine:
        tensors = random_tensors(manifest, 1)
        sample = {name: array[0] for name, array in tensors.items()}
        with engine.reserve(12) as ticket:
            futures = [engine.submit_tensors(ticket, sample) for _ in range(12)]
        eventually(backend.entered.is_set)
        for future in futures[:8]:
            future.cancel()
        backend.gate.set()
        for future in futures[8:]:
            assert future.result(timeout=20).exit_layer == 6
