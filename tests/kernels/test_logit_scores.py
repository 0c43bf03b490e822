"""Entropy, confidence and margin against the textbook formula in float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from exeunt.kernels.confidence import confidence, softmax
from exeunt.kernels.entropy import entropy
from exeunt.kernels.margin import margin
from tests.support import scores

Array = NDArray[Any]


def array(rows: list[list[float]]) -> Array:
    return np.asarray(rows, dtype=np.float32)


Score = Callable[[Array], Array]
KERNELS: dict[str, tuple[Score, Callable[[Array], float]]] = {
    "entropy": (entropy, scores.entropy),
    "confidence": (confidence, scores.confidence),
    "confidence at 2.5": (
        lambda logits: confidence(logits, 2.5),
        lambda logits: scores.confidence(logits, 2.5),
    ),
    "margin": (margin, scores.margin),
}
SHAPES = st.tuples(st.integers(1, 9), st.integers(2, 37))
FINITE = st.floats(-120, 120, width=32)
ALLOWED = FINITE | st.just(-math.inf)
ANYTHING = ALLOWED | st.sampled_from([math.inf, math.nan, 3.4e38, -3.4e38])


def arrays(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Array]:
    return SHAPES.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=elements))


@pytest.mark.parametrize("name", KERNELS)
@given(logits=arrays(ALLOWED))
@example(array([[89.5, 0.0], [300.0, 299.0], [-200.0, -201.0]]))
@example(array([[-math.inf, -math.inf], [-math.inf, 3.0], [0.0, 0.0]]))
@example(np.zeros((1, 3129), dtype=np.float32))
def test_score_equals_the_formula(name: str, logits: Array) -> None:
    kernel, formula = KERNELS[name]
    found = kernel(logits)
    assert found.dtype == np.float32
    assert found.shape == (len(logits),)
    expected = [formula(row) for row in logits]
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)


@given(logits=arrays(ALLOWED))
def test_scores_stay_in_their_range(logits: Array) -> None:
    classes = logits.shape[1]
    sound = np.isfinite(logits.max(axis=1))
    assert (entropy(logits)[sound] >= 0.0).all(), "a threshold of 0 must never fire"
    assert (entropy(logits)[sound] <= math.log(classes) * (1 + 1e-6)).all()
    assert (confidence(logits)[sound] <= 1.0).all()
    assert (margin(logits)[sound] >= 0.0).all()
    np.testing.assert_allclose(softmax(logits)[sound].sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
@given(logits=arrays(ANYTHING))
def test_a_row_with_nan_or_infinity_has_no_score_and_spoils_no_other(
    name: str, logits: Array
) -> None:
    kernel, _ = KERNELS[name]
    found = kernel(logits)
    top = logits.max(axis=1)
    unsound = np.isnan(top) | np.isinf(top)
    assert np.isnan(found[unsound]).all()
    assert np.isfinite(found[~unsound]).all()


@pytest.mark.parametrize("name", KERNELS)
@given(logits=arrays(ANYTHING), data=st.data())
def test_a_score_does_not_depend_on_batch_mates_or_their_order(
    name: str, logits: Array, data: st.DataObject
) -> None:
    kernel, _ = KERNELS[name]
    order = data.draw(st.permutations(range(len(logits))))
    found = kernel(logits)
    alone = np.concatenate([kernel(logits[place : place + 1]) for place in range(len(logits))])
    np.testing.assert_array_equal(found, alone)
    np.testing.assert_array_equal(kernel(logits[list(order)]), found[list(order)])


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("classes", [2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 129, 1000, 3129])
def test_a_score_is_the_same_bit_by_bit_at_every_width_and_batch(name: str, classes: int) -> None:
    kernel, _ = KERNELS[name]
    random = np.random.default_rng(classes)
    logits = (random.normal(size=(33, classes)) * 5).astype(np.float32)
    alone = np.concatenate([kernel(logits[place : place + 1]) for place in range(33)])
    for rows in (2, 3, 5, 8, 17, 33):
        np.testing.assert_array_equal(kernel(logits[:rows]), alone[:rows])
    np.testing.assert_array_equal(kernel(logits[::2]), alone[::2])


def test_one_class_is_certain() -> None:
    logits = array([[3.0], [-7.0]])
    assert entropy(logits).tolist() == [0.0, 0.0]
    assert confidence(logits).tolist() == [1.0, 1.0]


def test_the_inputs_are_left_as_they_are() -> None:
    logits = array([[1.0, -math.inf, 2.0]])
    kept = logits.copy()
    for kernel, _ in KERNELS.values():
        kernel(logits)
    np.testing.assert_array_equal(logits, kept)


def test_temperature_softens() -> None:
    logits = array([[4.0, 1.0, 0.0]])
    values = [float(confidence(logits, heat)[0]) for heat in (0.5, 1.0, 2.0, 100.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(1 / 3, abs=0.02)
