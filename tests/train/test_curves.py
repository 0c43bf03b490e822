"""Exit records, curves and thresholds, without torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exeunt.train.demo.curves import (
    CurvePoint,
    ExitRecord,
    choose_threshold,
    default_thresholds,
    mean_accuracy_over_rho,
    record_exits,
)


def record(seed: int = 0, depth: int = 4, count: int = 200) -> ExitRecord:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, size=count)
    # Later exits are right more often, and surer.
    logits = rng.normal(size=(depth, count, 5)).astype(np.float32)
    for layer in range(depth):
        logits[layer, np.arange(count), label] += layer
    kinds = ["question/color" if i % 2 else "statement/exists" for i in range(count)]
    return record_exits(logits, label, kinds)


@given(st.floats(0, 2), st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_a_point_equals_a_loop_over_rows(threshold: float, seed: int) -> None:
    found = record(seed, count=30)
    layers, right = [], []
    for row in range(30):
        fires = [k for k in range(4) if found.entropy[k, row] < threshold]
        layer = min([*fires, 3])
        layers.append(layer + 1)
        right.append(found.correct[layer, row])
    point = found.at(threshold)
    assert point.accuracy == pytest.approx(np.mean(right))
    assert point.rho == pytest.approx(np.mean(layers) / 4)


def test_entropy_is_that_of_the_distribution() -> None:
    logits = np.array([[[0.0, 1.0, -2.0]], [[1000.0, 0.0, 0.0]]], dtype=np.float32)
    p = np.exp(logits[0, 0]) / np.exp(logits[0, 0]).sum()
    found = record_exits(logits, np.array([1]), ["question/color"])
    assert found.entropy[:, 0] == pytest.approx([-(p * np.log(p)).sum(), 0.0], abs=1e-6)
    assert found.correct[:, 0].tolist() == [True, False]


def test_the_chosen_threshold_keeps_its_promise() -> None:
    found = record()
    chosen = choose_threshold(found, 0.02)
    for rows in (None, found.rows("statement/")):
        last = found.accuracy_by_exit(rows)[-1]
        assert found.at(chosen.threshold, rows).accuracy >= last - 0.02
    assert chosen.rho < 1
    assert choose_threshold(found, 1.0).rho == found.at(default_thresholds()[-1]).rho


def test_two_curves_compare_by_their_mean() -> None:
    low = [CurvePoint(0, 0.9, 1.0), CurvePoint(1, 0.5, 0.3)]
    high = [CurvePoint(0, 0.9, 1.0), CurvePoint(1, 0.8, 0.3)]
    assert mean_accuracy_over_rho(low, 0.3, 0.6) == pytest.approx(0.5)
    assert mean_accuracy_over_rho(high, 0.3, 0.6) == pytest.approx(0.8)
    assert mean_accuracy_over_rho(high, 0.1, 0.2) == 0.0
