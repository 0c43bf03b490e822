"""Criteria: strict or not as their papers say, and each unit judged alone."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from exeunt.engine.criteria import (
    Confidence,
    Cosine,
    Criterion,
    Entropy,
    Evidence,
    Margin,
    Patience,
    next_streak,
)
from exeunt.engine.criteria.base import answerable
from exeunt.engine.exit_policy.compiled import LanePolicy, Rule
from tests.support import scores

Array = NDArray[Any]
DEPTH = 4
CRITERIA: dict[str, Criterion] = {
    "entropy": Entropy(),
    "normalised entropy": Entropy(normalized=True),
    "patience": Patience(),
    "cosine": Cosine(),
    "min-token cosine": Cosine("min-token"),
    "confidence": Confidence((0.5, 1.0, 1.5, 2.0)),
    "margin": Margin(),
}
LOGITS = st.floats(-100, 100, width=32) | st.sampled_from([-math.inf, math.inf, math.nan])
HIDDEN = st.floats(0.125, 8, width=32) | st.sampled_from([0.0, -1.0, math.nan])


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    units, classes = draw(st.integers(1, 7)), draw(st.integers(2, 6))
    shape = (units, draw(st.integers(1, 4)), draw(st.integers(1, 5)))
    logits = draw(hnp.arrays(np.float32, (units, classes), elements=LOGITS))
    streak = draw(hnp.arrays(np.int64, units, elements=st.integers(0, DEPTH)))
    return Evidence(
        layer=draw(st.integers(1, DEPTH)),
        logits=logits,
        before=draw(hnp.arrays(np.float32, shape, elements=HIDDEN)),
        after=draw(hnp.arrays(np.float32, shape, elements=HIDDEN)),
        valid=draw(hnp.arrays(np.bool_, shape[:2])),
        streak=np.where(answerable(logits), streak, 0),  # as `next_streak` leaves it
    )


def part(whole: Evidence, places: list[int]) -> Evidence:
    names = ("logits", "before", "after", "valid", "streak")
    return replace(whole, **{name: getattr(whole, name)[places] for name in names})


@pytest.mark.parametrize("name", CRITERIA)
@given(whole=evidence(), threshold=st.floats(0, 4), data=st.data())
def test_a_unit_is_judged_alone_whoever_stands_beside_it(
    name: str, whole: Evidence, threshold: float, data: st.DataObject
) -> None:
    criterion = CRITERIA[name]
    assert whole.streak is not None
    order = list(data.draw(st.permutations(range(len(whole.streak)))))
    found = criterion.score(whole)
    fired = criterion.fires(found, threshold)
    mixed = criterion.score(part(whole, order))
    np.testing.assert_array_equal(mixed, found[order])
    np.testing.assert_array_equal(criterion.fires(mixed, threshold), fired[order])
    for place in range(len(found)):
        alone = criterion.score(part(whole, [place]))
        np.testing.assert_array_equal(alone, found[[place]])
        assert criterion.fires(alone, threshold)[0] == fired[place]
    assert not fired[np.isnan(found)].any()


RULES = st.lists(
    st.builds(
        lambda name, threshold, min_layer: Rule(
            name.split()[-1], CRITERIA[name], (threshold,) * DEPTH, min_layer
        ),
        st.sampled_from(sorted(CRITERIA)),
        st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]),
        st.integers(1, DEPTH),
    ),
    min_size=1,
    max_size=3,
)


@given(whole=evidence(), rules=RULES, need_all=st.booleans(), data=st.data())
def test_a_verdict_is_each_units_own(
    whole: Evidence, rules: list[Rule], need_all: bool, data: st.DataObject
) -> None:
    assert whole.streak is not None
    assert whole.logits is not None
    policy = LanePolicy(tuple(rules), need_all)
    units = len(whole.streak)
    verdict = policy.judge(whole, units)
    order = list(data.draw(st.permutations(range(units))))
    mixed = policy.judge(part(whole, order), units)
    np.testing.assert_array_equal(mixed.leave, verdict.leave[order])
    np.testing.assert_array_equal(mixed.rule, verdict.rule[order])
    np.testing.assert_array_equal(mixed.scores, verdict.scores[:, order])
    for unit in range(units):
        one = part(whole, [unit])
        fired = [
            whole.layer >= rule.min_layer
            and bool(rule.criterion.fires(rule.criterion.score(one), rule.thresholds[0])[0])
            for rule in rules
        ]
        expected = (all if need_all else any)(fired) and bool(answerable(one.logits)[0])  # type: ignore[arg-type]
        assert verdict.leave[unit] == expected
        if expected:
            assert verdict.rule[unit] == fired.index(True)


LN2 = float(np.float32(math.log(2)))


@pytest.mark.parametrize(
    ("name", "score", "threshold", "leaves"),
    [
        ("entropy", 0.25, 0.25, False),
        ("entropy", 0.2499, 0.25, True),
        ("entropy", 0.0, 0.0, False),
        ("normalised entropy", 1.0, 1.0, False),
        ("cosine", 1.0, 1.0, False),
        ("cosine", 0.75, 0.75, False),
        ("cosine", 0.7501, 0.75, True),
        ("cosine", -0.5, -1.0, True),
        ("confidence", 0.75, 0.75, True),
        ("confidence", 0.7499, 0.75, False),
        ("confidence", 1.0, 1.0, True),
        ("margin", 0.5, 0.5, False),
        ("margin", 0.5001, 0.5, True),
        ("patience", 2.0, 2.0, True),
        ("patience", 1.0, 2.0, False),
        ("patience", 0.0, 0.0, False),
        ("patience", 3.0, 0.0, False),
    ],
)
def test_the_comparison_is_that_of_the_paper(
    name: str, score: float, threshold: float, leaves: bool
) -> None:
    assert CRITERIA[name].fires(np.asarray([score], np.float32), threshold).tolist() == [leaves]


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 1.0, 100.0])
def test_nan_never_leaves(name: str, threshold: float) -> None:
    assert not CRITERIA[name].fires(np.asarray([np.nan], np.float32), threshold)[0]


def test_a_threshold_is_compared_as_written_and_not_rounded_to_float32() -> None:
    score = np.asarray([0.1], np.float32)  # 0.100000001490116
    assert not Entropy().fires(score, 0.1)[0]
    assert Entropy().fires(score, 0.1000000015)[0]


def test_normalised_entropy_of_a_flat_answer_is_one_for_any_number_of_answers() -> None:
    for classes in (2, 3, 17, 3129):
        flat = Evidence(1, logits=np.zeros((1, classes), dtype=np.float32))
        assert Entropy(normalized=True).score(flat)[0] == pytest.approx(1.0, abs=1e-6)
        assert Entropy().score(flat)[0] == pytest.approx(math.log(classes), abs=1e-5)


@pytest.mark.parametrize("reduction", ["flattened", "token-mean", "min-token", "cls"])
@given(whole=evidence())
def test_cosine_is_reduced_as_the_option_says(reduction: Any, whole: Evidence) -> None:
    assert whole.before is not None
    assert whole.after is not None
    assert whole.valid is not None
    before, after = np.nan_to_num(whole.before), np.nan_to_num(whole.after)
    found = Cosine(reduction).score(replace(whole, before=before, after=after))
    expected = [
        scores.cosine(before[unit], after[unit], whole.valid[unit], reduction)
        for unit in range(len(before))
    ]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_each_layer_has_its_own_temperature() -> None:
    logits = np.asarray([[2.0, 0.0]], dtype=np.float32)
    criterion = Confidence((0.5, 1.0, 2.0))
    found = [float(criterion.score(Evidence(layer, logits=logits))[0]) for layer in (1, 2, 3)]
    assert found == pytest.approx([1 / (1 + math.exp(-2 / heat)) for heat in (0.5, 1.0, 2.0)])


@given(
    lines=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(2, 3)),
        elements=st.sampled_from([0.0, 1.0, math.nan, -math.inf]),
    )
)
def test_a_streak_counts_equal_answers_in_a_row(lines: Array) -> None:
    units = lines.shape[1]
    answers, streak = np.full(units, -1), np.zeros(units, dtype=np.int64)
    found = []
    for logits in lines:
        answers, streak = next_streak(logits, answers, streak)
        found.append(streak)
    for unit in range(units):
        count, last = 0, None
        for layer in range(len(lines)):
            row = lines[layer, unit]
            usable = not np.isnan(row).any() and np.isfinite(row).any()
            answer = int(row.argmax()) if usable else None
            count = count + 1 if answer is not None and answer == last else 0
            last = answer
            assert found[layer][unit] == count
