"""What a batch costs: t(b) = alpha + beta b, fitted to measured times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# A batch is worth running when a row costs at most this share more than in the largest batch.
WORTHWHILE = 1.05


@dataclass(frozen=True, slots=True)
class SegmentCost:
    """Seconds of a batch of b rows through one stage and its head: alpha_s + beta_s b."""

    alpha_s: float
    beta_s: float

    def batch_s(self, rows: int) -> float:
        """Return the predicted seconds of a batch."""
        return self.alpha_s + self.beta_s * rows

    def worthwhile_rows(self, max_rows: int) -> int:
        """Return the smallest batch whose rows cost at most 5 % more than those of the largest."""
        limit = WORTHWHILE * self.batch_s(max_rows) / max_rows
        sizes = range(1, max_rows + 1)
        return next((b for b in sizes if self.batch_s(b) / b <= limit), max_rows)


def fit_cost(rows: Sequence[int], seconds: Sequence[float]) -> SegmentCost:
    """Fit alpha and beta, both at least 0, to measured batches.

    Relative errors count, so that the small batches, which decide what is worthwhile, weigh as much
    as the large ones.

    Args:
        rows: of each batch, at least two different sizes for a slope.
        seconds: of each batch, above 0.
    """
    sizes, times = np.asarray(rows, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    design = np.stack([1.0 / times, sizes / times], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(design, np.ones(len(times)), rcond=None)
    if alpha < 0 or len(set(rows)) < 2:
        return SegmentCost(0.0, float((times / sizes).mean()))
    if beta < 0:
        return SegmentCost(float(times.mean()), 0.0)
    return SegmentCost(float(alpha), float(beta))


@dataclass(frozen=True)
class Costs:
    """The costs of all lanes.

    stages: by lane index and stage. followers: the lanes that join a lane.
    """

    stages: Mapping[tuple[int, int], SegmentCost]
    followers: Mapping[int, tuple[int, ...]]

    def remaining_s(self, lane: int, stage: int, rows: int) -> float:
        """Predict the seconds from a stage to the end of the last lane, in batches of `rows`."""
        own = sum(
            cost.batch_s(rows)
            for (index, place), cost in self.stages.items()
            if index == lane and place >= stage
        )
        later = [self.remaining_s(other, 0, rows) for other in self.followers.get(lane, ())]
        return own + max(later, default=0.0)

    def beside(self, own_s: float) -> "Costs":
        """Return the costs with so many seconds more for every batch."""
        stages = {
            stage: SegmentCost(cost.alpha_s + own_s, cost.beta_s)
            for stage, cost in self.stages.items()
        }
        return Costs(stages, self.followers)

    def longest_s(self, rows: int) -> float:
        """Return the seconds of the slowest stage at a batch of `rows`."""
        return max((cost.batch_s(rows) for cost in self.stages.values()), default=0.0)
