"""The cosine of a layer's output with its input against the formula in float64."""

import math
from typing import Any, cast, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from exeunt.kernels.cosine import cosine
from exeunt.kernels.cosine.reference import Reduction
from tests.support import scores

Array = NDArray[Any]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
VALUES = st.just(0.0) | st.floats(0.0078125, 64, width=32) | st.floats(-64, -0.0078125, width=32)


@st.composite
def states(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 19)))
    before = draw(hnp.arrays(np.float32, shape, elements=VALUES))
    after = draw(hnp.arrays(np.float32, shape, elements=VALUES))
    valid = draw(hnp.arrays(np.bool_, shape[:2]))
    return before, after, valid


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(drawn=states())
def test_similarity_equals_the_formula(
    reduction: Reduction, drawn: tuple[Array, Array, Array]
) -> None:
    before, after, valid = drawn
    found = cosine(before, after, valid, reduction)
    assert found.dtype == np.float32
    expected = [
        scores.cosine(before[place], after[place], valid[place], reduction)
        for place in range(len(before))
    ]
    np.testing.assert_allclose(found, expected, atol=5e-6)
    assert (np.abs(found) <= 1.0).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 3e38])
@given(drawn=states())
def test_padding_may_hold_anything(
    reduction: Reduction, poison: float, drawn: tuple[Array, Array, Array]
) -> None:
    before, after, valid = drawn
    valid[:, 0] = True  # the class token of `cls` is never padding
    clean = cosine(before, after, valid, reduction)
    before[~valid] = poison
    after[~valid] = -poison
    np.testing.assert_array_equal(cosine(before, after, valid, reduction), clean)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(drawn=states(), data=st.data())
def test_similarity_does_not_depend_on_batch_mates_or_their_order(
    reduction: Reduction, drawn: tuple[Array, Array, Array], data: st.DataObject
) -> None:
    before, after, valid = drawn
    before[0] = np.nan  # a mate that has no score
    found = cosine(before, after, valid, reduction)
    order = list(data.draw(st.permutations(range(len(before)))))
    np.testing.assert_array_equal(
        cosine(before[order], after[order], valid[order], reduction), found[order]
    )
    for place in range(len(before)):
        one = slice(place, place + 1)
        np.testing.assert_array_equal(
            cosine(before[one], after[one], valid[one], reduction), found[one]
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("width", [1, 3, 7, 16, 33, 768])
def test_similarity_is_the_same_bit_by_bit_in_every_batch(reduction: Reduction, width: int) -> None:
    random = np.random.default_rng(width)
    before = random.normal(size=(17, 23, width)).astype(np.float32)
    after = (before + random.normal(size=before.shape) / 4).astype(np.float32)
    valid = random.random((17, 23)) < 0.8
    alone = np.concatenate(
        [cosine(before[[one]], after[[one]], valid[[one]], reduction) for one in range(17)]
    )
    for rows in (2, 3, 8, 17):
        part = slice(rows)
        np.testing.assert_array_equal(
            cosine(before[part], after[part], valid[part], reduction), alone[part]
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(drawn=states(), scale=st.sampled_from([1.0, 0.37, 1.1, 3.0, 1 / 3]))
def test_an_unchanged_state_never_passes_a_threshold_of_one(
    reduction: Reduction, drawn: tuple[Array, Array, Array], scale: float
) -> None:
    before, _, valid = drawn
    found = cosine(before, before * np.float32(scale), valid, reduction)
    assert (found <= 1.0).all()


def test_zero_norms_and_no_valid_token_score_zero() -> None:
    zero = np.zeros((2, 3, 4), dtype=np.float32)
    one = np.ones((2, 3, 4), dtype=np.float32)
    nothing = np.zeros((2, 3), dtype=np.bool_)
    for reduction in REDUCTIONS:
        assert cosine(zero, one, None, reduction).tolist() == [0.0, 0.0]
        assert cosine(one, zero, None, reduction).tolist() == [0.0, 0.0]
        if reduction != "cls":
            assert cosine(one, one, nothing, reduction).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_state_that_is_not_finite_has_no_score(value: float) -> None:
    before = np.ones((2, 3, 4), dtype=np.float32)
    after = before.copy()
    after[1, 0, 2] = value
    for reduction in REDUCTIONS:
        first, second = cosine(before, after, None, reduction).tolist()
        assert first == 1.0
        assert math.isnan(second), reduction


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_without_a_mask_every_token_is_valid(reduction: Reduction) -> None:
    random = np.random.default_rng(5)
    before = random.normal(size=(4, 7, 5)).astype(np.float32)
    after = random.normal(size=(4, 7, 5)).astype(np.float32)
    every = np.ones((4, 7), dtype=np.bool_)
    np.testing.assert_array_equal(
        cosine(before, after, None, reduction), cosine(before, after, every, reduction)
    )


def test_large_half_precision_states_do_not_overflow() -> None:
    before = np.full((1, 64, 768), 6e4, dtype=np.float16)
    after = -before
    found = cosine(cast("Any", before), cast("Any", after))
    assert found.dtype == np.float32
    assert found.tolist() == [-1.0]
