"""Allowed answers: each scored by its tokens' probabilities among those that may follow."""

import itertools

import numpy as np
import pytest

from exeunt.engine.decoding.allowed import AnswerTree
from tests.engine.decoding.test_beams import following, log_p
from tests.engine.golden_manifests import ofa
from tests.engine.golden_manifests.walking import FAMILIES, SIZES, open_engine
from tests.support.tensors import one_sample, random_tensors

ANSWERS = {
    "one token each": [(5,), (9,), (70,)],
    "a common beginning": [(5, 6), (5, 7), (9,)],
    "one within another": [(5,), (5, 6), (5, 6, 7)],
    "a late fork": [(1, 7, 3, 4), (1, 7, 3, 5)],
    "a single one": [(4, 4)],
}


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS.keys())
def test_scores_are_products_over_the_tree_of_answers(answers: list[tuple[int, ...]]) -> None:
    manifest, rules = ofa(eos=2), FAMILIES["ofa"]
    tensors = random_tensors(manifest, 4, SIZES[0])
    engine, _ = open_engine(manifest, rules)
    with engine:
        found = engine.run(tensors, generation={"allowed": answers})
        assert engine.used_slots == 0
    ended = [(*answer, 2) for answer in answers]
    for place, answer in enumerate(found):
        logits = following(manifest, rules, one_sample(tensors, place))
        scores = []
        for tokens in ended:
            score = 0.0
            for at, token in enumerate(tokens):
                beside = sorted({other[at] for other in ended if other[:at] == tokens[:at]})
                own = log_p(logits(tokens[:at])[beside]) if len(beside) > 1 else np.zeros(1)
                score += float(own[beside.index(token)])
            scores.append(score)
        np.testing.assert_allclose(answer.logits, scores, atol=1e-5)
        assert np.exp(answer.logits).sum() == pytest.approx(1.0, abs=1e-5)
        assert answer.index == int(np.argmax(scores))
        assert answer.tokens == ended[answer.index]


def test_answers_of_one_token_take_one_step() -> None:
    manifest = ofa(eos=2)
    engine, _ = open_engine(manifest, {})
    with engine:
        before = engine.stats.layers_possible["decoder"]
        (answer,) = engine.run(
            random_tensors(manifest, 1, SIZES[0]), generation={"allowed": [[5], [6], [7]]}
        )
        steps = (engine.stats.layers_possible["decoder"] - before) / 3
    assert steps == 1
    assert len(answer.token_exit_layers) == 1


def test_width_counts_the_beginnings_that_are_open_at_once() -> None:
    assert AnswerTree([(1,), (2,)], eos=0).width == 1
    assert AnswerTree([(1, 2), (1, 3), (4, 2), (4, 3)], eos=0).width == 2
    every = list(itertools.product((1, 2), repeat=3))
    assert AnswerTree(every, eos=0).width == 4


def test_long_answers_are_read_without_end_of_the_stack() -> None:
    long = tuple([5] * 4000)
    scored = AnswerTree([(*long, 6), (*long, 7)], eos=0)
    assert scored.width == 1
