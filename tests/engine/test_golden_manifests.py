"""Rows of published models walk through the engine: its types hold every one of them."""

from collections import Counter

import numpy as np
import pytest

from exeunt.engine import Engine
from exeunt.engine.bundle.manifest import Manifest
from tests.engine.golden_manifests import BUILDERS
from tests.engine.golden_manifests.walking import (
    FAMILIES,
    NOTHING,
    SIZES,
    assert_same,
    open_engine,
    sequential,
)
from tests.support.sequential import Walk
from tests.support.tensors import one_sample, random_tensors
from tests.support.waiting import eventually


@pytest.mark.parametrize("policy", ["never", "early"])
@pytest.mark.parametrize("family", BUILDERS)
def test_a_batch_is_answered_as_the_sequential_algorithm_answers(family: str, policy: str) -> None:
    manifest, rules = BUILDERS[family](), FAMILIES[family] if policy == "early" else NOTHING
    tensors = random_tensors(manifest, 10, SIZES[0])
    engine, _ = open_engine(manifest, rules)
    with engine:
        answers = engine.run(tensors)
        alone = [engine.run(one_sample(tensors, place))[0] for place in range(10)]
        walks = sequential(manifest, rules, tensors)
        for answer, single, walk in zip(answers, alone, walks, strict=True):
            assert_same(manifest, answer, walk)
            assert_same(manifest, single, walk)
            assert answer.policy_version == 7
        assert_counted(engine, manifest, [*walks, *walks])
        assert engine.queued_rows == 0
    leaves_early = any(
        layer < manifest.lane(lane).depth
        for walk in walks
        for lane in walk.left
        for layer in walk.layers(lane)
    )
    assert leaves_early == (policy == "early"), "the rule must tell the two policies apart"


def assert_counted(engine: Engine, manifest: Manifest, walks: list[Walk]) -> None:
    """Compare the counters: one for each unit, and in a loop one for each token."""
    exits = Counter(
        (lane, left.layer, left.fired or "depth")
        for walk in walks
        for lane in walk.left
        for left in walk.left[lane]
    )
    assert engine.stats.exits == exits
    for lane in manifest.lanes:
        layers = [layer for walk in walks for layer in walk.layers(lane.name)]
        assert engine.stats.layers_run[lane.name] == sum(layers)
        assert engine.stats.layers_possible[lane.name] == len(layers) * lane.depth
    eventually(lambda: engine.stats.requests == {"answered": len(walks)})


@pytest.mark.parametrize("family", BUILDERS)
def test_samples_of_different_lengths_share_the_engine(family: str) -> None:
    manifest, rules = BUILDERS[family](), FAMILIES[family]
    batches = [random_tensors(manifest, 4, sizes, seed) for seed, sizes in enumerate(SIZES)]
    engine, _ = open_engine(manifest, rules)
    with engine:
        pending = []
        with engine.reserve(12 * engine.rows_per_sample) as ticket:
            for place in range(4):
                for tensors in batches:
                    own = {name: array[place] for name, array in tensors.items()}
                    pending.append(engine.submit_tensors(ticket, own))
            answers = [future.result(timeout=30) for future in pending]
    for order, answer in enumerate(answers):
        tensors = one_sample(batches[order % 3], order // 3)
        assert_same(manifest, answer, sequential(manifest, rules, tensors)[0])


@pytest.mark.parametrize("family", BUILDERS)
def test_probe_records_every_layer_of_every_lane(family: str) -> None:
    manifest = BUILDERS[family]()
    tensors = random_tensors(manifest, 3, SIZES[0])
    engine, _ = open_engine(manifest, NOTHING)
    with engine:
        lanes = engine.probe(tensors)
        assert set(lanes) == {lane.name for lane in manifest.lanes}
        for lane in manifest.lanes:
            record = lanes[lane.name]
            carried = [name for name, spec in lane.state.items() if spec.role == "carried"]
            assert list(record.states) == carried
            rows = (lane.rows,) if lane.rows > 1 else ()
            for name in carried:
                shape = tuple(SIZES[0].get(str(dim), dim) for dim in lane.state[name].shape)
                assert [array.shape for array in record.states[name]] == [(3, *rows, *shape)] * (
                    lane.depth + 1
                )
            assert record.hidden == record.states[carried[0]]
            assert {layer: array.shape for layer, array in record.logits.items()} == dict.fromkeys(
                lane.heads, (3, lane.classes)
            )
            assert (record.final_logits is not None) == (lane.final_head is not None)
            units = 3 * (lane.rows if lane.unit == "row" else 1)
            assert {name: array.shape for name, array in record.scores.items()} == dict.fromkeys(
                lane.scores, (lane.depth, units)
            )
        assert engine.queued_rows == 0
        if not any(lane.loop for lane in manifest.lanes):
            answers = engine.run(tensors)
            record = lanes[manifest.tasks[0].lane]
            full = record.final_logits
            if full is None:
                full = record.logits[manifest.lane(manifest.tasks[0].lane).depth]
            np.testing.assert_array_equal(np.stack([answer.logits for answer in answers]), full)
