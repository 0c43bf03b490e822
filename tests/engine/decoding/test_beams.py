"""Beam search through the engine, against a search over a function from tokens to logits."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import InputError, QueueFull
from exeunt.engine.exit_policy import LaneRules
from tests.engine.golden_manifests import ofa, oscar_captioning
from tests.engine.golden_manifests.walking import FAMILIES, SIZES, open_engine
from tests.support.manifests import fake_bundle
from tests.support.sequential import SequentialModel
from tests.support.tensors import Tensors, one_sample, random_tensors

Logits = Callable[[tuple[int, ...]], NDArray[np.float32]]


def following(manifest: Manifest, rules: Any, sample: Tensors) -> Logits:
    """Return the logits behind any tokens, walked one token at a time for one sample alone."""
    backend, bundle = FakeBackend(), fake_bundle(manifest)
    model = SequentialModel(
        manifest,
        lambda name: backend.load(manifest, bundle.root, name),
        {lane: LaneRules.model_validate(value) for lane, value in rules.items()},
    )

    @cache
    def logits(tokens: tuple[int, ...]) -> NDArray[np.float32]:
        found = model.follow(sample, list(tokens))[-1].logits
        assert found is not None
        return found

    return logits


def log_p(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64) - float(logits.max())
    found: NDArray[np.float64] = wide - math.log(float(np.exp(wide).sum()))
    return found


def banned(tokens: Sequence[int], n: int) -> set[int]:
    grams = [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
    return {gram[-1] for gram in grams if n and gram[:-1] == tuple(tokens[len(tokens) - n + 1 :])}


def search(
    logits: Logits, manifest: Manifest, beams: int, ngram: int, penalty: float
) -> tuple[tuple[int, ...], float]:
    """Keep `beams` hypotheses, in lists of (score, tokens), until as many have ended."""
    loop = manifest.lane(manifest.tasks[0].lane).loop
    assert loop is not None
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    ended: list[tuple[float, tuple[int, ...]]] = []
    while True:
        every = []
        for score, tokens in live:
            own, out = log_p(logits(tokens)), banned(tokens, ngram)
            every += [
                (score + own[token], (*tokens, token))
                for token in range(len(own))
                if token not in out
            ]
        every.sort(key=lambda pair: -pair[0])
        live = []
        for rank, (score, tokens) in enumerate(every[: 2 * beams]):
            if tokens[-1] == loop.eos or len(tokens) == loop.max_steps:
                if rank < beams and len(ended) < beams:
                    ended.append((score / len(tokens) ** penalty, tokens))
            elif len(live) < beams:
                live.append((score, tokens))
        if len(ended) == beams or not live:
            best = max(ended)
            return best[1], best[0]


@pytest.mark.parametrize("fill", ["propagate", "copy-layer", "mue"])
@pytest.mark.parametrize(("beams", "ngram", "penalty"), [(1, 2, 1.0), (2, 0, 1.0), (4, 3, 0.5)])
def test_beams_find_what_a_search_over_single_walks_finds(
    fill: str, beams: int, ngram: int, penalty: float
) -> None:
    manifest = ofa(eos=0)  # the fake head favours low tokens, so that some hypotheses end
    rules = {**FAMILIES["ofa"], "decoder": {**FAMILIES["ofa"]["decoder"], "fill": fill}}
    tensors = random_tensors(manifest, 5, SIZES[0])
    options = {"beams": beams, "no_repeat_ngram": ngram, "length_penalty": penalty}
    engine, _ = open_engine(manifest, rules, max_batch_rows=6)
    with engine:
        answers = engine.run(tensors, generation=options)
        assert engine.used_slots == 0
        assert engine.queued_rows == 0
        assert engine.resident_requests == 0
    for place, answer in enumerate(answers):
        logits = following(manifest, rules, one_sample(tensors, place))
        tokens, score = search(logits, manifest, beams, ngram, penalty)
        if beams > 1:
            assert answer.text_score == pytest.approx(score, rel=1e-4)
            assert answer.tokens == tokens
        for step, layer in enumerate(answer.token_exit_layers):
            assert layer >= 1
            assert step < len(answer.tokens)
        assert len(answer.token_exit_layers) == len(answer.tokens)


def test_a_loop_without_caches_searches_as_well() -> None:
    manifest = oscar_captioning(max_steps=5)
    tensors = random_tensors(manifest, 3, SIZES[0])
    rules = FAMILIES["oscar_captioning"]
    engine, _ = open_engine(manifest, rules)
    with engine:
        answers = engine.run(tensors, generation={"beams": 3})
    for place, answer in enumerate(answers):
        logits = following(manifest, rules, one_sample(tensors, place))
        tokens, score = search(logits, manifest, 3, 0, 1.0)
        assert answer.tokens == tokens
        assert answer.text_score == pytest.approx(score, rel=1e-4)


def test_no_n_gram_appears_twice() -> None:
    manifest = ofa(eos=299)
    engine, _ = open_engine(manifest, FAMILIES["ofa"])
    with engine:
        for answer in engine.run(
            random_tensors(manifest, 6, SIZES[0]), generation={"no_repeat_ngram": 2}
        ):
            pairs = list(zip(answer.tokens, answer.tokens[1:], strict=False))
            assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 0}, "beams"),
        ({"beams": 1000}, "beams"),
        ({"beams": 2.5}, "beams"),
        ({"beams": True}, "beams"),
        ({"max_tokens": 14}, "caches hold 13"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 13}, "min_tokens"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram"),
        ({"length_penalty": float("nan")}, "length_penalty"),
        ({"allowed": []}, "empty"),
        ({"allowed": [[]]}, "no tokens"),
        ({"allowed": [[5], [5]]}, "same tokens"),
        ({"allowed": [[300]]}, "0 to 299"),
        ({"allowed": [[5] * 13]}, "13 tokens"),
        ({"allowed": ["yes"]}, "tokenizer"),
        ({"allowed": [[5]], "beams": 2}, "beams"),
        ({"beams": 30}, "room for"),
    ],
)
def test_options_that_cannot_be_met_are_refused_at_the_door(
    options: dict[str, Any], message: str
) -> None:
    manifest = ofa()
    engine, _ = open_engine(manifest, FAMILIES["ofa"], max_resident_rows=8, max_queued_rows=64)
    with engine:
        with pytest.raises(InputError, match=message):
            engine.run(random_tensors(manifest, 1, SIZES[0]), generation=options)
        assert engine.queued_rows == 0


def test_hypotheses_take_places_and_are_refused_when_there_are_none() -> None:
    manifest = ofa()
    engine, _ = open_engine(manifest, FAMILIES["ofa"], max_resident_rows=8, max_queued_rows=8)
    sample = {name: array[0] for name, array in random_tensors(manifest, 1, SIZES[0]).items()}
    with engine:
        with engine.reserve(5), engine.reserve() as ticket, pytest.raises(QueueFull):
            engine.submit_tensors(ticket, sample, generation={"beams": 4})
        assert engine.queued_rows == 0
        with engine.reserve() as ticket:
            assert engine.submit_tensors(ticket, sample, generation={"beams": 8}).result().tokens
        assert engine.queued_rows == 0


def test_a_caller_who_leaves_frees_the_slots_of_all_beams() -> None:
    manifest = ofa(eos=299)
    engine, backend = open_engine(manifest, FAMILIES["ofa"])
    tensors = random_tensors(manifest, 4, SIZES[0])
    samples = [{name: array[place] for name, array in tensors.items()} for place in range(4)]
    with engine:
        backend.delay_s = 0.002
        with engine.reserve(4) as ticket:
            pending = [engine.submit_tensors(ticket, s, generation={"beams": 3}) for s in samples]
        for future in pending[:3]:
            future.cancel()
        assert pending[3].result().tokens
        backend.delay_s = 0.0
        engine.run(one_sample(tensors, 0))  # the dropped ones have been met by now
        assert engine.used_slots == 0
        assert engine.resident_requests == 0


def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    manifest = ofa()
    engine, _ = open_engine(manifest, FAMILIES["ofa"])
    sample = {name: array[0] for name, array in random_tensors(manifest, 1, SIZES[0]).items()}
    told: list[int] = []

    def listener(token: int, _: object) -> None:
        told.append(token)
        if len(told) == 2:
            raise ValueError("gone")

    with engine:
        with engine.reserve() as ticket:
            answer = engine.submit_tensors(ticket, sample, on_token=listener).result()
        assert engine.alive
        assert engine.used_slots == 0
    assert len(answer.tokens) > 2
    assert told == list(answer.tokens[:2])
    assert "listener" in caplog.text


def test_every_token_is_told_as_it_is_chosen() -> None:
    manifest = ofa()
    engine, _ = open_engine(manifest, FAMILIES["ofa"])
    sample = {name: array[0] for name, array in random_tensors(manifest, 1, SIZES[0]).items()}
    told: list[tuple[int, int]] = []
    with engine, engine.reserve() as ticket:
        answer = engine.submit_tensors(
            ticket, sample, on_token=lambda token, found: told.append((token, found.layer))
        ).result()
    assert told == list(zip(answer.tokens, answer.token_exit_layers, strict=True))


def test_a_wide_request_that_was_given_up_holds_nobody_up() -> None:
    manifest = ofa(eos=299)
    engine, backend = open_engine(
        manifest, FAMILIES["ofa"], max_resident_rows=8, max_queued_rows=64
    )
    sample = {name: array[0] for name, array in random_tensors(manifest, 1, SIZES[0]).items()}
    with engine:
        backend.delay_s = 0.01
        with engine.reserve(3) as ticket:
            long = engine.submit_tensors(ticket, sample, generation={"beams": 6})
            wide = engine.submit_tensors(ticket, sample, generation={"beams": 8})
            small = engine.submit_tensors(ticket, sample, generation={"max_tokens": 1})
        wide.cancel()
        assert small.result(timeout=20).tokens
        assert not long.done()
        long.cancel()
    assert engine.queued_rows == 0
