"""Accuracy against depth used: entropy exits over recorded logits, in numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class CurvePoint:
    """What one threshold gives on a set of samples."""

    threshold: float  # entropy in nats; a row leaves at the first exit below it
    accuracy: float  # share of right answers, 0 to 1
    rho: float  # mean exit layer / depth


@dataclass(frozen=True)
class ExitRecord:
    """Every exit's answer to N samples of one data set."""

    correct: NDArray[np.bool_]  # [L, N]
    entropy: Floats  # [L, N], nats
    kinds: tuple[str, ...]  # of each sample

    @property
    def depth(self) -> int:
        """Count the exits."""
        return len(self.correct)

    def rows(self, prefix: str) -> Rows:
        """Select the samples whose kind starts with `prefix`: bool[N]."""
        return np.array([kind.startswith(prefix) for kind in self.kinds])

    def accuracy_by_exit(self, rows: Rows | None = None) -> list[float]:
        """Return the accuracy of each exit, over the given rows or all."""
        chosen = self.correct if rows is None else self.correct[:, rows]
        return [float(value) for value in chosen.mean(axis=1)]

    def at(self, threshold: float, rows: Rows | None = None) -> CurvePoint:
        """Return accuracy and rho of the entropy rule with one threshold for all layers.

        A row leaves at the first layer k with E^(k) < F, else at the last.

        Reference: UNITER-MSD, Eq. (18) and III.C
        """
        correct, entropy = self.correct, self.entropy
        if rows is not None:
            correct, entropy = correct[:, rows], entropy[:, rows]
        fires = entropy < threshold
        fires[-1] = True
        layer = fires.argmax(axis=0)
        accuracy = np.take_along_axis(correct, layer[None], axis=0).mean()
        return CurvePoint(threshold, float(accuracy), float((layer + 1).mean() / self.depth))

    def curve(self, thresholds: Sequence[float], rows: Rows | None = None) -> list[CurvePoint]:
        """Return one point a threshold."""
        return [self.at(threshold, rows) for threshold in thresholds]


def record_exits(
    logits: NDArray[np.float32], label: NDArray[np.int64], kinds: Sequence[str]
) -> ExitRecord:
    """Score the exits' logits f32[L, N, C] against labels i64[N].

    E^(k) = ln sum_c e^z_c - (sum_c z_c e^z_c) / (sum_c e^z_c), shifted by the largest logit.

    Reference: UNITER-MSD, Eq. (18)
    """
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exps = np.exp(shifted)
    total = exps.sum(axis=-1)
    entropy = np.log(total) - (shifted * exps).sum(axis=-1) / total
    correct = logits.argmax(axis=-1) == label[None, :]
    return ExitRecord(correct, np.maximum(entropy, 0.0), tuple(kinds))


def default_thresholds() -> list[float]:
    """Return the thresholds of a curve, from strict to lax, up to ln 16."""
    return [0.0, *np.geomspace(0.001, np.log(16), 79).round(4).tolist()]


def choose_threshold(record: ExitRecord, max_loss: float) -> CurvePoint:
    """Choose the threshold with the smallest rho that costs at most `max_loss` of accuracy.

    The loss is counted against the last exit, and must hold over all samples *and* over the
    statements alone, which are the harder part.

    Args:
        record: of the calibration data; choosing on the test data would flatter.
        max_loss: in accuracy, 0 to 1.
    """
    statements = record.rows("statement/")
    floors = [
        (rows, record.accuracy_by_exit(rows)[-1] - max_loss)
        for rows in (None, statements)
        if rows is None or rows.any()
    ]
    allowed = [
        point
        for point in record.curve(default_thresholds())
        if all(record.at(point.threshold, rows).accuracy >= floor for rows, floor in floors)
    ]
    # Threshold 0 never fires and loses nothing, so there is always one.
    return min(allowed, key=lambda point: (point.rho, -point.accuracy))


def mean_accuracy_over_rho(curve: Sequence[CurvePoint], low: float, high: float) -> float:
    """Return the mean of the best accuracy reachable at each rho in [low, high].

    It compares two curves by one number; a rho that a curve cannot reach counts its best below.
    """
    points = sorted(curve, key=lambda point: point.rho)
    rhos = np.array([point.rho for point in points])
    best = np.maximum.accumulate([point.accuracy for point in points])
    grid = np.linspace(low, high, 51)
    place = np.searchsorted(rhos, grid, side="right") - 1
    return float(np.where(place >= 0, best[np.maximum(place, 0)], 0.0).mean())
