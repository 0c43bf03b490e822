"""Comparing answers with the sequential ones: bits, distances and decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.exactness.sequential import Sequential

Promise = Literal["bits", "tolerance", "none"]


@dataclass(frozen=True)
class Deviation:
    """How N answers differ from the sequential ones.

    bit_equal: rows with the same exit layer and the same bits. within: rows whose logits are off by
    at most the tolerance. largest: difference of a logit. near: rows with a score within the
    tolerance of its threshold. moved_near, moved_outside: of these and of the others, the rows that
    left at another layer. Logits are compared with the sequential ones of the layer at which the
    row left, so that a decision that moved is counted as one, not as a difference.
    """

    rows: int
    bit_equal: int
    within: int
    largest: float
    near: int
    moved_near: int
    moved_outside: int

    def broken(self, promise: Promise) -> str | None:
        """Return how the rows break a promise, in words; None where they keep it."""
        if promise == "bits" and self.bit_equal < self.rows:
            return (
                f"{self.rows - self.bit_equal} of {self.rows} rows are not bit-equal (largest"
                f" difference {self.largest:.2g},"
                f" {self.moved_near + self.moved_outside} at another layer)"
            )
        if promise == "tolerance" and (self.moved_outside or self.within < self.rows):
            return (
                f"{self.rows - self.within} of {self.rows} rows are beyond the tolerance (largest"
                f" difference {self.largest:.2g}), and {self.moved_outside} that are not near a"
                " threshold leave at another layer"
            )
        return None


def deviation(
    reference: Sequential,
    exit_layers: NDArray[np.int64],
    logits: NDArray[np.float32],
    tolerance: float,
) -> Deviation:
    """Compare answers with a reference.

    Args:
        reference: of N samples.
        exit_layers: i64[N], where they left.
        logits: f32[N, C], of their answers.
        tolerance: for logits, and for scores around a threshold.
    """
    expected = reference.at(exit_layers)
    same_bits = (logits.view(np.uint32) == expected.view(np.uint32)).all(axis=1)
    off = np.abs(logits.astype(np.float64) - expected).max(axis=1)
    off[same_bits] = 0.0  # infinities, too
    off[np.isnan(off)] = np.inf
    moved = exit_layers != reference.exit_layers
    near = reference.nearest <= tolerance
    return Deviation(
        rows=len(logits),
        bit_equal=int((same_bits & ~moved).sum()),
        within=int((off <= tolerance).sum()),
        largest=float(off.max()),
        near=int(near.sum()),
        moved_near=int((moved & near).sum()),
        moved_outside=int((moved & ~near).sum()),
    )


def together(deviations: Sequence[Deviation]) -> Deviation:
    """Return at least one deviation, of several passes, as one of all their rows."""
    return Deviation(
        rows=sum(one.rows for one in deviations),
        bit_equal=sum(one.bit_equal for one in deviations),
        within=sum(one.within for one in deviations),
        largest=max(one.largest for one in deviations),
        near=sum(one.near for one in deviations),
        moved_near=sum(one.moved_near for one in deviations),
        moved_outside=sum(one.moved_outside for one in deviations),
    )
