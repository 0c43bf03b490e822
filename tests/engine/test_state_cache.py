"""What an image lane made of an image is kept, and computed once for all who ask at once."""

from typing import Any

import numpy as np
import pytest

from exeunt.engine import Answer
from exeunt.engine.errors import EngineStopped, SegmentError
from tests.engine.golden_manifests import lxmert, ofa, xvlm_nlvr2
from tests.engine.golden_manifests.walking import FAMILIES, SIZES, open_engine
from tests.support.tensors import Tensors, one_sample, random_tensors
from tests.support.waiting import eventually

COUNT = 100


def one_image(count: int, text_seed: int = 0) -> Tensors:
    """Return samples with different texts and one image."""
    tensors = random_tensors(ofa(), count, SIZES[0])
    for name in ("patch_images", "patch_masks"):
        tensors[name] = np.repeat(tensors[name][:1], count, axis=0)
    tensors["src_tokens"] = (tensors["src_tokens"] + text_seed) % 300
    return tensors


def open_cached(manifest: Any, rules: Any, **config: Any) -> Any:
    return open_engine(manifest, rules, **{"state_cache_bytes": 2**24, **config})


def rows_of(backend: Any, segment: str) -> int:
    return sum(rows for name, rows in backend.calls if name == segment)


def same(one: Answer, other: Answer) -> bool:
    return (
        one.tokens == other.tokens
        and one.token_exit_layers == other.token_exit_layers
        and np.array_equal(one.logits, other.logits)
        and one.lanes["image"].exit_layer == other.lanes["image"].exit_layer
    )


def test_a_hundred_questions_about_one_image_walk_its_lane_once() -> None:
    manifest, rules, tensors = ofa(), FAMILIES["ofa"], one_image(COUNT)
    plain, _ = open_engine(manifest, rules, state_cache_bytes=0)
    with plain:
        expected = plain.run(tensors)
        assert plain.state_cache.lanes == ()
    engine, backend = open_cached(manifest, rules)
    with engine:
        answers = engine.run(tensors)
        assert engine.state_cache.lanes == ("image",)
        assert rows_of(backend, "image.embed") == 1
        assert rows_of(backend, "text.embed") == COUNT
        counts = engine.state_cache.counts
        assert counts.misses == 1
        assert counts.hits + counts.waited == COUNT - 1
        assert engine.state_cache.entries == 1
        assert engine.stats.layers_possible["image"] == 3, "hits never change rho"
        assert engine.used_slots == 0
        assert engine.resident_requests == 0
    assert sum(not answer.lanes["image"].cached for answer in answers) == 1
    assert all(same(one, other) for one, other in zip(answers, expected, strict=True))


def test_other_rules_for_the_lane_are_another_result() -> None:
    manifest, tensors = ofa(), one_image(1)
    sample = {name: array[0] for name, array in tensors.items()}
    engine, backend = open_cached(manifest, FAMILIES["ofa"])
    with engine:
        deep = engine.compile(engine.policy.model_copy(update={"tasks": {}}))
        for policy in (None, deep, None, deep):
            with engine.reserve() as ticket:
                answer = engine.submit_tensors(ticket, sample, exit_policy=policy).result()
            assert (answer.lanes["image"].exit_layer == 3) == (policy is deep)
        assert rows_of(backend, "image.embed") == 2
        assert engine.state_cache.counts.hits == 2


def test_the_bytes_are_bounded_and_the_oldest_result_goes_first() -> None:
    manifest, rules = ofa(), FAMILIES["ofa"]
    tensors = random_tensors(manifest, 3, SIZES[0])
    engine, _ = open_cached(manifest, rules)
    with engine:
        engine.run(one_sample(tensors, 0))
        each = engine.state_cache.bytes
    assert each > 0
    engine, _ = open_cached(manifest, rules, state_cache_bytes=2 * each)
    with engine:
        for place in (0, 1, 0, 2, 0, 1):
            engine.run(one_sample(tensors, place))
        cache = engine.state_cache
        assert cache.bytes <= 2 * each
        assert (cache.counts.hits, cache.counts.misses, cache.counts.evicted) == (2, 4, 2)
    engine, _ = open_cached(manifest, rules, state_cache_bytes=each - 1)
    with engine:
        for _ in range(2):
            engine.run(one_sample(tensors, 0))
        assert (engine.state_cache.bytes, engine.state_cache.counts.misses) == (0, 2)


def test_who_waited_goes_on_when_the_first_one_leaves() -> None:
    manifest, tensors = ofa(), one_image(6)
    engine, backend = open_cached(manifest, FAMILIES["ofa"], max_batch_rows=1)
    with engine:
        expected = engine.run(tensors)
    engine, backend = open_cached(manifest, FAMILIES["ofa"], max_batch_rows=1)
    samples = [{name: array[place] for name, array in tensors.items()} for place in range(6)]
    with engine:
        backend.delay_s = 0.01
        with engine.reserve(6) as ticket:
            pending = [engine.submit_tensors(ticket, sample) for sample in samples]
        eventually(lambda: engine.state_cache.counts.waited == 5)
        pending[0].cancel()
        backend.delay_s = 0.0
        answers = [future.result(timeout=20) for future in pending[1:]]
        assert engine.used_slots == 0
        eventually(lambda: engine.resident_requests == 0)
    assert all(same(one, other) for one, other in zip(answers, expected[1:], strict=True))


def test_who_waited_goes_on_when_the_first_one_fails() -> None:
    manifest, tensors = ofa(), one_image(4)
    engine, backend = open_cached(manifest, FAMILIES["ofa"], max_batch_rows=1)
    samples = [{name: array[place] for name, array in tensors.items()} for place in range(4)]
    with engine:
        backend.delay_s = 0.02
        backend.failing.add("enc.02")
        with engine.reserve(4) as ticket:
            pending = [engine.submit_tensors(ticket, sample) for sample in samples]
        with pytest.raises(SegmentError):
            pending[0].result(timeout=20)
        backend.failing.clear()
        backend.delay_s = 0.0
        outcomes = [future.exception(timeout=20) for future in pending[1:]]
        assert all(one is None or isinstance(one, SegmentError) for one in outcomes)
        assert engine.run(one_sample(tensors, 1))[0].tokens
        assert engine.used_slots == 0
        assert engine.resident_requests == 0


def test_who_waits_hears_of_the_engines_end() -> None:
    manifest, tensors = ofa(), one_image(5)
    engine, backend = open_cached(manifest, FAMILIES["ofa"], max_batch_rows=1)
    samples = [{name: array[place] for name, array in tensors.items()} for place in range(5)]
    backend.delay_s = 0.02
    with engine.reserve(5) as ticket:
        pending = [engine.submit_tensors(ticket, sample) for sample in samples]
    eventually(lambda: engine.state_cache.counts.waited == 4)
    engine.close()
    for future in pending:
        assert isinstance(future.exception(timeout=20), EngineStopped)
    assert engine.queued_rows == 0


@pytest.mark.parametrize(("build", "lanes"), [(lxmert, ("image",)), (xvlm_nlvr2, ("image",))])
def test_lanes_of_several_rows_and_of_features_are_kept_too(build: Any, lanes: Any) -> None:
    manifest = build()
    rules = FAMILIES[build.__name__]
    tensors = random_tensors(manifest, 5, SIZES[0])
    plain, _ = open_engine(manifest, rules, state_cache_bytes=0)
    with plain:
        expected = plain.run(tensors)
    engine, _ = open_cached(manifest, rules)
    with engine:
        assert engine.state_cache.lanes == lanes
        for _ in range(2):
            for answer, other in zip(engine.run(tensors), expected, strict=True):
                np.testing.assert_array_equal(answer.logits, other.logits)
        assert engine.state_cache.counts.misses == 5
        assert engine.state_cache.counts.hits == 5


def test_who_writes_to_what_was_sent_does_not_change_what_others_get() -> None:
    manifest, tensors = ofa(), one_image(2)
    engine, backend = open_cached(manifest, FAMILIES["ofa"])
    with engine:
        expected = engine.run(one_sample(tensors, 1))[0]
    engine, backend = open_cached(manifest, FAMILIES["ofa"])
    mine = {name: array[0].copy() for name, array in tensors.items()}
    with engine:
        backend.delay_s = 0.02
        with engine.reserve(2) as ticket:
            first = engine.submit_tensors(ticket, {**mine, "src_tokens": mine["src_tokens"].copy()})
            second = engine.submit_tensors(ticket, mine)
            mine["patch_images"][...] = 7.0  # before the lane has read it
            first.result(), second.result()
        backend.delay_s = 0.0
        assert same(engine.run(one_sample(tensors, 1))[0], expected)
        assert engine.state_cache.counts.hits + engine.state_cache.counts.waited == 2


def test_who_waits_and_leaves_is_let_go_before_the_first_one_is_through() -> None:
    manifest, tensors = ofa(), one_image(3)
    engine, backend = open_cached(manifest, FAMILIES["ofa"], max_batch_rows=1)
    samples = [{name: array[place] for name, array in tensors.items()} for place in range(3)]
    with engine:
        backend.delay_s = 0.05
        with engine.reserve(3) as ticket:
            pending = [engine.submit_tensors(ticket, sample) for sample in samples]
        eventually(lambda: engine.state_cache.counts.waited == 2)
        for future in pending[1:]:
            future.cancel()
        eventually(lambda: engine.resident_requests == 1)
        assert not pending[0].done()
        backend.delay_s = 0.0
        assert pending[0].result(timeout=20).tokens
        assert engine.used_slots == 0
