"""Tokens leave a decoder early, and the caches of the layers that they skip are filled."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from exeunt.engine.errors import ExitPolicyError
from tests.engine.golden_manifests import ofa
from tests.engine.golden_manifests.walking import (
    SIZES,
    assert_same,
    open_engine,
    sequential,
)
from tests.support.tensors import one_sample, random_tensors

FILLS = ["propagate", "copy-token", "copy-layer", "mue"]
SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "mue", "beta": 0.8, "tau": 2.0},
    {"schedule": "calm"},
    {"schedule": "t5x", "steps": 5},
    {"schedule": "mue-code"},
]
COUNT = 12


def rules(fill: str, decay: dict[str, Any] | None = None, threshold: float = 0.93) -> Any:
    options = {"decay": decay} if decay else {}
    return {
        "image": {"any": [{"criterion": "cosine", "threshold": 0.7}]},
        "decoder": {
            "any": [{"criterion": "cosine", "threshold": threshold, "options": options}],
            "fill": fill,
        },
    }


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("decay", [None, *SCHEDULES], ids=["flat", "mue", "calm", "t5x", "code"])
def test_tokens_and_their_exits_are_those_of_one_sample_alone(
    fill: str, decay: dict[str, Any] | None
) -> None:
    manifest, own = ofa(), rules(fill, decay)
    tensors = random_tensors(manifest, COUNT, SIZES[0])
    walks = sequential(manifest, own, tensors)
    layers = {layer for walk in walks for layer in walk.layers("decoder")}
    assert len(layers) > 1, "tokens must leave at several layers for the caches to differ"
    engine, backend = open_engine(manifest, own, max_batch_rows=5)
    with engine:
        for answer, walk in zip(engine.run(tensors), walks, strict=True):
            assert_same(manifest, answer, walk)
        for place in range(3):
            assert_same(manifest, engine.run(one_sample(tensors, place))[0], walks[place])
        assert engine.used_slots == 0
    assert max(rows for name, rows in backend.calls if name == "dec.02") > 1


def test_the_fillings_lead_to_different_texts() -> None:
    manifest = ofa()
    tensors = random_tensors(manifest, COUNT, SIZES[0])
    tokens = {
        fill: [walk.tokens for walk in sequential(manifest, rules(fill), tensors)] for fill in FILLS
    }
    for one in FILLS:
        for other in FILLS:
            assert one == other or tokens[one] != tokens[other], f"{one} acts as {other}"


def test_layers_that_no_later_token_reaches_are_not_filled() -> None:
    manifest, own = ofa(), rules("propagate", threshold=-1.0)  # every token leaves at layer 1
    engine, backend = open_engine(manifest, own)
    with engine:
        engine.run(random_tensors(manifest, 3, SIZES[0]))
        backend.calls.clear()
        answers = engine.run(random_tensors(manifest, 3, SIZES[0]))
    assert {layer for answer in answers for layer in answer.token_exit_layers} == {1}
    assert not [name for name, _ in backend.calls if name.startswith("propagate")]


def test_two_streams_fill_the_caches_of_many_requests() -> None:
    manifest, own = ofa(), rules("propagate")
    tensors = random_tensors(manifest, 40, SIZES[0])
    walks = sequential(manifest, own, tensors)
    engine, _ = open_engine(manifest, own, max_batch_rows=4, threads=2, streams=2)
    with engine:
        compared = 0
        for answer, walk in zip(engine.run(tensors), walks, strict=True):
            if walk.nearest > 1e-5:
                assert_same(manifest, answer, walk)
                compared += 1
        assert compared > 30
        assert engine.used_slots == 0


def test_a_decoder_without_propagate_segments_names_the_other_fillings() -> None:
    record = ofa().model_dump(mode="json", exclude_unset=True)
    for lane in record["lanes"]:
        lane.pop("propagate", None)
    record["segments"] = {
        name: spec for name, spec in record["segments"].items() if "propagate" not in name
    }
    bare = type(ofa()).model_validate(record)
    with pytest.raises(ExitPolicyError, match="name another `fill`"):
        open_engine(bare, rules("propagate"))
    engine, _ = open_engine(bare, rules("copy-token"))
    with engine:
        assert np.all([len(a.tokens) for a in engine.run(random_tensors(bare, 2, SIZES[0]))])


@pytest.mark.parametrize(
    ("lane", "wrong", "message"),
    [
        ("image", {"fill": "mue"}, "keeps no caches"),
        ("image", {"decay": {"schedule": "calm"}}, "does not loop"),
        ("decoder", {"decay": {"schedule": "calm", "tau": 0}}, "tau"),
        ("decoder", {"decay": {"schedule": "calm", "tau": float("inf")}}, "tau"),
        ("decoder", {"decay": {"schedule": "mue", "beta": 0}}, "beta"),
        ("decoder", {"decay": {"schedule": "calm", "beta": 0.5}}, "beta"),
        ("decoder", {"decay": {"schedule": "mue-code", "tau": 2}}, "tau"),
        ("decoder", {"decay": {"schedule": "slowly"}}, "schedule"),
        ("decoder", {"decay": {"schedule": "mue-code", "steps": 4096}}, "nothing would ever leave"),
        ("decoder", {"fill": "guess"}, "fill"),
    ],
)
def test_what_cannot_be_decoded_that_way_is_refused(
    lane: str, wrong: dict[str, Any], message: str
) -> None:
    options = {"decay": wrong["decay"]} if "decay" in wrong else {}
    own: dict[str, Any] = {"any": [{"criterion": "cosine", "threshold": 0.9, "options": options}]}
    if "fill" in wrong:
        own["fill"] = wrong["fill"]
    with pytest.raises(Exception, match=message):
        open_engine(ofa(), {lane: own})


def test_a_token_enters_and_runs_its_first_layer_in_one_go() -> None:
    manifest = ofa()
    engine, _ = open_engine(manifest, rules("propagate"))
    with engine:
        trace = engine.start_trace()
        engine.run(random_tensors(manifest, 6, SIZES[0]))
    own = [batch for batch in trace.batches if batch.lane == "decoder"]
    names = [batch.segment for batch in own]
    assert names[:3] == ["enc.norm", "dec.embed", "dec.01"]
    for before, after in pairwise(own):
        if before.segment == "dec.embed":
            assert (after.segment, after.requests) == ("dec.01", before.requests)
            assert after.started_s >= before.ended_s
