"""What is special in each of the published models: groups, rows, loops, tied lanes, last heads."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from exeunt.engine import Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import ConfigError, ExitPolicyError
from tests.engine.golden_manifests import (
    BUILDERS,
    clip,
    lxmert,
    ofa,
    oscar_captioning,
    uniter_nlvr2,
    uniter_vcr,
    xvlm_nlvr2,
    xvlm_vqa,
)
from tests.engine.golden_manifests.walking import (
    FAMILIES,
    NOTHING,
    SIZES,
    open_engine,
    sequential,
)
from tests.support.manifests import fake_bundle
from tests.support.tensors import random_tensors


def test_probe_does_not_record_the_same_memory_twice() -> None:
    manifest = lxmert()
    engine, _ = open_engine(manifest, NOTHING)
    with engine:
        states = engine.probe(random_tensors(manifest, 2))["cross"].states
    assert len(states["vision"]) == 3
    assert not np.array_equal(states["vision"][0], states["vision"][1])
    assert not np.array_equal(states["vision"][1], states["vision"][2])


class CountingBackend:
    """Counts how often each segment is loaded."""

    name = "fake"
    compiles_shapes = False

    def __init__(self) -> None:
        self.loaded: Counter[str] = Counter()
        self._inner = FakeBackend()

    def load(self, manifest: Manifest, root: Any, segment: str) -> Any:
        self.loaded[segment] += 1
        return self._inner.load(manifest, root, segment)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize("family", BUILDERS)
def test_every_segment_is_loaded_once_also_where_lanes_are_tied(family: str) -> None:
    manifest, backend = BUILDERS[family](), CountingBackend()
    with Engine.open(fake_bundle(manifest), backend=backend):
        assert backend.loaded == Counter(set(manifest.segments))


def test_nlvr2_uses_its_final_head_only_where_no_exit_fired() -> None:
    manifest = uniter_nlvr2()
    tensors = random_tensors(manifest, 12, SIZES[0])
    engine, _ = open_engine(manifest, NOTHING)
    with engine:
        scores = np.sort(engine.probe(tensors)["joint"].scores["entropy"][3])
    middle = float(scores[5] + scores[6]) / 2
    rules = {"joint": {"any": [{"criterion": "entropy", "threshold": middle, "min_layer": 4}]}}
    engine, backend = open_engine(manifest, rules)
    with engine:
        answers = engine.run(tensors)
        record = engine.probe(tensors)["joint"]
    assert record.final_logits is not None
    reasons = {answer.reason for answer in answers}
    assert reasons == {"criterion", "depth"}
    for place, answer in enumerate(answers):
        fired = record.scores["entropy"][3, place] < middle
        used = record.logits[4] if fired else record.final_logits
        assert answer.exit_layer == 4
        assert answer.reason == ("criterion" if fired else "depth")
        np.testing.assert_array_equal(answer.logits, used[place])
    assert set(dict(backend.calls)) >= {"exit.04", "final"}


def test_a_pair_of_rows_is_judged_and_counted_once() -> None:
    manifest = uniter_nlvr2()
    tensors = random_tensors(manifest, 3, SIZES[0])
    engine, backend = open_engine(manifest, NOTHING, max_batch_rows=4)
    with engine:
        engine.run(tensors)
        assert engine.stats.exits == {("joint", 4, "depth"): 3}
        assert engine.stats.rho() == 1.0
    assert sum(rows for name, rows in backend.calls if name == "layer.01") == 6
    assert sum(rows for name, rows in backend.calls if name == "final") == 3
    assert all(rows <= 4 for _, rows in backend.calls)


@pytest.mark.parametrize(("family", "rows"), [("uniter_nlvr2", 2), ("uniter_vcr", 4)])
def test_a_batch_must_hold_the_largest_group(family: str, rows: int) -> None:
    with pytest.raises(ConfigError, match=f"raise it to {rows}"):
        open_engine(BUILDERS[family](), NOTHING, max_batch_rows=rows - 1)
    engine, _ = open_engine(BUILDERS[family](), NOTHING, max_batch_rows=rows)
    with engine:
        assert len(engine.run(random_tensors(engine.manifest, 3, SIZES[0]))) == 3


def test_a_group_sees_all_of_its_rows() -> None:
    manifest = uniter_vcr()
    tensors = random_tensors(manifest, 1, SIZES[0])
    changed = {name: array.copy() for name, array in tensors.items()}
    changed["input_ids"][0, 3] += 1  # the last answer only
    engine, _ = open_engine(manifest, NOTHING)
    with engine:
        first, second = engine.run(tensors)[0], engine.run(changed)[0]
    assert not np.array_equal(first.logits, second.logits)


def test_images_of_one_sample_leave_their_lane_one_by_one() -> None:
    manifest, rules = xvlm_nlvr2(), FAMILIES["xvlm_nlvr2"]
    tensors = random_tensors(manifest, 12, SIZES[0])
    walks = sequential(manifest, rules, tensors)
    assert any(len(set(walk.layers("image"))) == 2 for walk in walks), "two depths in one sample"
    engine, _ = open_engine(manifest, rules)
    with engine:
        for answer, walk in zip(engine.run(tensors), walks, strict=True):
            assert answer.lanes["image"].exit_layer == max(walk.layers("image"))
        assert sum(engine.stats.exits[key] for key in engine.stats.exits if key[0] == "image") == 24


def test_clip_answers_a_single_logit_without_layers() -> None:
    manifest = clip()
    engine, _ = open_engine(manifest, NOTHING)
    with engine:
        answer = engine.run(random_tensors(manifest, 1))[0]
    assert (answer.exit_layer, answer.depth, answer.reason) == (0, 0, "depth")
    assert answer.logits.shape == (1,)
    assert answer.criterion == "never"
    with pytest.raises(ExitPolicyError, match="match"):
        open_engine(manifest, {"match": {"any": [{"criterion": "entropy", "threshold": 0.1}]}})


@pytest.mark.parametrize("build", [oscar_captioning, ofa])
def test_a_caption_ends_at_its_end_token(build: Any) -> None:
    manifest = build(eos=299)
    tensors = random_tensors(manifest, 4, SIZES[0])
    engine, _ = open_engine(manifest, NOTHING)
    with engine:
        texts = [answer.tokens for answer in engine.run(tensors)]
    longest = manifest.lane(manifest.tasks[0].lane).loop.max_steps
    chosen = next(place for place, text in enumerate(texts) if len(text) == longest)
    free = texts[chosen]
    engine, _ = open_engine(build(eos=free[2]), NOTHING)
    with engine:
        stopped = engine.run(tensors)
        possible = engine.stats.layers_possible[manifest.tasks[0].lane]
    assert stopped[chosen].tokens == free[: free.index(free[2]) + 1]
    assert all(len(answer.token_exit_layers) == len(answer.tokens) for answer in stopped)
    assert possible == 3 * sum(len(answer.tokens) for answer in stopped)


def test_captions_of_different_lengths_share_batches() -> None:
    manifest = oscar_captioning()
    tensors = random_tensors(manifest, 6, SIZES[0])
    engine, backend = open_engine(manifest, FAMILIES["oscar_captioning"])
    with engine:
        answers = engine.run(tensors)
    layers = {layer for answer in answers for layer in answer.token_exit_layers}
    assert len(layers) > 1, "tokens leave at several layers"
    assert max(rows for name, rows in backend.calls if name == "embed") > 1


def test_ranking_answers_one_of_all_answers_through_two_tied_decoder_lanes() -> None:
    manifest = xvlm_vqa()
    engine, backend = open_engine(manifest, NOTHING)
    with engine:
        answer = engine.run(random_tensors(manifest, 1))[0]
    assert answer.logits.shape == (14,)
    assert [name for name, _ in backend.calls if name.startswith("decoder.0")] == [
        "decoder.01",
        "decoder.02",
    ] * 2
    assert answer.lanes["first"].exit_layer == 2
