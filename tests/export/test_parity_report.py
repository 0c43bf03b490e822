"""The ladder of tolerances and the measure of a difference."""

import numpy as np
import pytest

from exeunt.export.parity.measure import difference
from exeunt.export.parity.report import LADDER, parity_of


@pytest.mark.parametrize(
    ("error", "tolerance"),
    [(0.0, 0.0), (3e-8, 1e-7), (1e-6, 1e-6), (1.1e-6, 2e-6), (4e-5, 5e-5), (0.5, 0.5)],
)
def test_smallest_tolerance_that_holds(error: float, tolerance: float) -> None:
    assert parity_of(error).tolerance == tolerance
    assert list(LADDER) == sorted(LADDER)


def test_difference_is_the_largest_one() -> None:
    first = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    assert difference(first, first) == 0.0
    assert difference(first, first + np.array([0, 0.5, -1], dtype=np.float32)) == 1.0
    assert difference(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)) == 0.0


def test_difference_does_not_hide_what_is_not_finite() -> None:
    one, nan, inf = (np.array([value], np.float32) for value in (1.0, np.nan, np.inf))
    assert difference(one, nan) == float("inf")
    assert difference(nan, one) == float("inf")
    assert difference(inf, one) == float("inf")
    assert difference(inf, -inf) == float("inf")
    assert difference(inf, inf) == 0.0
    assert difference(nan, nan) == 0.0


def test_difference_sees_shapes_and_truth_values() -> None:
    assert difference(np.zeros((2, 3)), np.zeros((3, 2))) == float("inf")
    assert difference(np.array([True, False]), np.array([True, True])) == 1.0
