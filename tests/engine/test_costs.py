"""Segment costs: the fit, what batch is worthwhile, and what the scheduler is told."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exeunt.engine.scheduling import Costs, SegmentCost, fit_cost, stage_table

SIZES = (1, 4, 32)


@given(alpha=st.floats(0, 1e-2), beta=st.floats(1e-5, 1e-2))
def test_exact_costs_are_found_again(alpha: float, beta: float) -> None:
    fitted = fit_cost(SIZES, [alpha + beta * rows for rows in SIZES])
    assert fitted.alpha_s == pytest.approx(alpha, abs=1e-7 + 1e-6 * beta)
    assert fitted.beta_s == pytest.approx(beta, rel=1e-6)


@given(st.lists(st.floats(1e-6, 1.0), min_size=3, max_size=3))
def test_a_fit_predicts_no_negative_time(seconds: list[float]) -> None:
    fitted = fit_cost(SIZES, seconds)
    assert fitted.alpha_s >= 0
    assert fitted.beta_s >= 0
    assert fitted.batch_s(1) > 0


@pytest.mark.parametrize(
    ("alpha", "beta", "rows"), [(0.0, 1.0, 1), (0.17, 1.0, 4), (10.0, 1.0, 27), (1.0, 0.0, 31)]
)
def test_the_smallest_worthwhile_batch(alpha: float, beta: float, rows: int) -> None:
    cost = SegmentCost(alpha, beta)
    assert cost.worthwhile_rows(32) == rows
    limit = 1.05 * cost.batch_s(32) / 32
    assert cost.batch_s(rows) / rows <= limit
    assert rows == 1 or cost.batch_s(rows - 1) / (rows - 1) > limit


def test_the_table_sums_what_is_left() -> None:
    """Two lanes of two stages that are joined by a third."""
    stages = {(lane, stage): SegmentCost(1.0, 0.1) for lane in range(3) for stage in range(2)}
    costs = Costs(stages, {0: (2,), 1: (2,)})
    table = stage_table(costs, max_rows=8, min_batch_rows=2)
    assert table.worthwhile((0, 0)) == 2
    assert table.remaining_s[2, 1] == pytest.approx(1.2)
    assert table.remaining_s[0, 0] == pytest.approx(4 * 1.2)
    assert table.latest_start_s((2, 1), 10.0) == pytest.approx(8.8)
    assert table.latest_start_s((2, 1), None) == math.inf
    assert table.latest_start_s((9, 9), 10.0) == -math.inf
    assert costs.longest_s(10) == pytest.approx(2.0)
