"""Corner cases of decoding, each by the least that shows it."""

import asyncio
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from exeunt.engine.backends import fake
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.decoding.decoding import Decoding
from exeunt.engine.errors import ExeuntError, InputError
from tests.engine.decoding.test_beams import following, search
from tests.engine.golden_manifests import ofa, oscar_captioning
from tests.engine.golden_manifests.walking import FAMILIES, SIZES, open_engine
from tests.support.tensors import one_sample, random_tensors


def changed(**loop: Any) -> Manifest:
    record = ofa().model_dump(mode="json", exclude_unset=True)
    record["lanes"][-1]["loop"] |= loop
    return Manifest.model_validate(record)


def test_beams_of_a_loop_without_caches_read_their_own_tokens() -> None:
    manifest, rules = oscar_captioning(max_steps=8), FAMILIES["oscar_captioning"]
    tensors = random_tensors(manifest, 12, SIZES[0])
    engine, _ = open_engine(manifest, rules, max_queued_rows=512, max_resident_rows=256)
    with engine:
        answer = engine.run(tensors, generation={"beams": 4})[5]
    logits = following(manifest, rules, one_sample(tensors, 5))
    assert answer.tokens == search(logits, manifest, 4, 0, 1.0)[0]


def test_beams_that_may_say_nothing_end_the_request_and_not_the_engine() -> None:
    manifest = changed(never=[i for i in range(300) if i not in (2, 5, 6, 7)])
    engine, _ = open_engine(manifest, {})
    with engine:
        options = {"beams": 2, "no_repeat_ngram": 1, "min_tokens": 8}
        with suppress(ExeuntError):
            engine.run(random_tensors(manifest, 1, SIZES[0]), generation=options)
        assert engine.alive


def test_a_token_that_is_never_answered_is_not_answered() -> None:
    manifest = changed(never=[i for i in range(300) if i not in (2, 5, 6, 7)])
    engine, _ = open_engine(manifest, {})
    with engine:
        options = {"no_repeat_ngram": 1, "min_tokens": 8}
        try:
            (answer,) = engine.run(random_tensors(manifest, 1, SIZES[0]), generation=options)
        except ExeuntError:
            return
    assert set(answer.tokens) <= {2, 5, 6, 7}


def test_labels_are_not_those_of_other_answers() -> None:
    record = ofa().model_dump(mode="json", exclude_unset=True)
    record["tasks"][0] |= {"labels": ["yes", "no"], "answers": [[5], [6]]}
    manifest = Manifest.model_validate(record)
    engine, _ = open_engine(manifest, {})
    with engine:
        tensors = random_tensors(manifest, 1, SIZES[0])
        (answer,) = engine.run(tensors, generation={"allowed": [[70], [80]]})
        assert answer.label is None
        (answer,) = engine.run(tensors, generation={"allowed": [[70], [80], [9]]})
        assert len(answer.probabilities) == 3


def test_exits_are_those_of_the_answers_own_steps() -> None:
    manifest = ofa(eos=2)
    engine, _ = open_engine(manifest, FAMILIES["ofa"])
    with engine:
        allowed = [[5], [9, 7, 3, 4], [9, 7, 3, 5]]
        (answer,) = engine.run(
            random_tensors(manifest, 1, SIZES[0]), generation={"allowed": allowed}
        )
    assert answer.tokens == (5, 2)
    assert len(answer.token_exit_layers) == 1, "certain after one step"


def test_answers_that_the_head_rules_out_are_not_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    original = fake._FakeSegment._head

    def head(self: Any, inputs: Any, rows: int) -> Any:
        logits = original(self, inputs, rows).copy()
        logits[:, 5:8] = -np.inf
        return logits

    monkeypatch.setattr(fake._FakeSegment, "_head", head)
    manifest = ofa(eos=2)
    engine, _ = open_engine(manifest, {})
    with engine:
        try:
            (answer,) = engine.run(
                random_tensors(manifest, 1, SIZES[0]), generation={"allowed": [[5], [6]]}
            )
        except ExeuntError:
            assert engine.alive  # with warnings as errors log_softmax's one ends the engine
            return
    assert not np.isnan(answer.logits).any()


@pytest.mark.parametrize(
    "options",
    [
        {"beam": 4},
        {"allowed": [[5, 6, 7], [5, 6, 8]], "max_tokens": 2},
        {"allowed": [[5], [6]], "min_tokens": 4},
        {"allowed": [["5"], [True]]},
    ],
)
def test_options_that_would_be_ignored_are_refused(options: dict[str, Any]) -> None:
    manifest = ofa()
    engine, _ = open_engine(manifest, {})
    with engine, pytest.raises(InputError):
        engine.run(random_tensors(manifest, 1, SIZES[0]), generation=options)


def test_a_listener_that_is_cancelled_harms_nobody() -> None:
    manifest = ofa()
    engine, _ = open_engine(manifest, {})
    sample = {name: array[0] for name, array in random_tensors(manifest, 1, SIZES[0]).items()}

    def listener(token: int, _: object) -> None:
        raise asyncio.CancelledError

    with engine:
        with engine.reserve() as ticket:
            future = engine.submit_tensors(ticket, sample, on_token=listener)
        future.exception(timeout=20)
        assert engine.alive


def test_a_segment_that_fills_caches_is_checked_before_the_engine_is_ready_again() -> None:
    manifest = ofa()
    rules = {"decoder": {"any": [{"criterion": "cosine", "threshold": 0.93}]}}
    engine, backend = open_engine(manifest, rules)
    with engine:
        backend.failing |= {"propagate.02", "propagate.03"}
        with pytest.raises(ExeuntError):
            engine.run(random_tensors(manifest, 4, SIZES[0]))
        with pytest.raises(ExeuntError):
            engine._worker._self_check()


def test_constants_of_tied_lanes_agree() -> None:
    record = ofa().model_dump(mode="json", exclude_unset=True)
    record["lanes"][1]["state"]["bias"]["shape"][0] = 7  # the image lane's has 4 heads
    with pytest.raises(ValueError, match="tied"):
        Manifest.model_validate(record)


def test_a_request_remembers_the_logits_of_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = ofa(eos=299)
    engine, _ = open_engine(manifest, {})
    held: list[Any] = []
    begin = Decoding.begin

    def spy(self: Decoding, unit: Any) -> None:
        held.append(unit)
        begin(self, unit)

    monkeypatch.setattr(Decoding, "begin", spy)
    with engine:
        engine.run(random_tensors(manifest, 1, SIZES[0]))
    assert sum(found.logits is not None for found in held[0].exits) <= 1


def test_the_suites_decoder_tells_samples_apart() -> None:
    """Or no test with it sees a row that reads another's context, or a wrong cached lane."""
    manifest = ofa()
    engine, _ = open_engine(manifest, {})
    with engine:
        answers = engine.run(random_tensors(manifest, 8, SIZES[0]))
    assert len({answer.tokens for answer in answers}) > 1
