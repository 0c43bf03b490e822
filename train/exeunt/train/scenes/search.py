"""Choosing exit thresholds on held-out data: the largest time reduction at a given quality."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from exeunt.train.scenes.evaluation import LaneName, Outcome
from exeunt.train.scenes.exits import ExitPlan, LaneRule, Measure

NUM_THRESHOLDS = 8  # tried after each layer
SMALLEST_LOSS = 1e-4  # of quality; what costs less is free

# Of a lane, which thresholds a step lowers together: the places of its layers, from 0.
Places = tuple[int, ...]


class Task(Protocol):
    """What the search asks of a task of held-out data."""

    @property
    def metrics(self) -> Sequence[str]:
        """Return the names of the qualities that must be kept."""
        ...

    def lane_scores(self, measure: Measure) -> dict[LaneName, Tensor]:
        """Return the scores f32[L, N] of each lane at full depth; the encoder's are cosines."""
        ...

    def run(self, plan: ExitPlan) -> Outcome:
        """Return what a plan gives."""
        ...


@dataclass(frozen=True)
class Point:
    """One plan with what it gave."""

    plan: ExitPlan
    outcome: Outcome
    kept: float  # the smallest of the metrics' shares of their value at full depth


def kept_share(outcome: Outcome, full: Outcome, metrics: Sequence[str]) -> float:
    """Return the smallest share of full depth's quality over the metrics.

    Of a metric that is 0 at full depth nothing can be lost.
    """
    return min(
        outcome.quality[name] / full.quality[name] if full.quality[name] else 1.0
        for name in metrics
    )


def candidates(scores: Tensor) -> list[float]:
    """Return thresholds in falling order, each of which lets a further part of the rows leave.

    Args:
        scores: f32[N], of rows after a layer.
    """
    shares = 1.0 - torch.arange(1, NUM_THRESHOLDS + 1) / NUM_THRESHOLDS
    # Below the smallest score at last, so that all leave.
    found = torch.quantile(scores.float(), shares) - 1e-4
    return sorted({round(float(value), 4) for value in found}, reverse=True)


@dataclass
class _Dial:
    """Thresholds of a lane that are lowered together, with those still to be tried."""

    lane: LaneName
    places: Places
    left: list[float]
    tried: tuple[Point, Point] | None = None  # from where, and what the next step gave

    def step(self, here: Point, scores: Tensor, run: Callable[[ExitPlan], Point]) -> Point | None:
        """Return what one more step gives; None at the end."""
        if self.tried is None or self.tried[0] is not here:
            plan = self._next(here.plan, scores)
            if plan is None:
                return None
            self.tried = here, run(plan)
        return self.tried[1]

    def _next(self, plan: ExitPlan, scores: Tensor) -> ExitPlan | None:
        """Return the plan after one more step, which lets some row leave earlier; None at the end.

        Args:
            plan: as it is now.
            scores: f32[L, N] of the lane's rows.
        """
        rule: LaneRule = getattr(plan, self.lane)
        now = rule.exits(scores)
        while self.left:
            thresholds = list(rule.of_depth(len(scores))[:-1])
            for place in self.places:
                thresholds[place] = min(thresholds[place], self.left[0])
            lowered = replace(rule, thresholds=tuple(thresholds))
            if not torch.equal(lowered.exits(scores), now):
                return replace(plan, **{self.lane: lowered})
            self.left.pop(0)
        return None


def search(
    task: Task, floor: float, *, by_layer: bool = True, measure: Measure = "cosine"
) -> list[Point]:
    """Lower thresholds step by step from full depth; return every plan on the way.

    Each step is the one that saves most for what it loses. What a step was worth before others were
    taken is an estimate of what it is worth now, so only the most promising one is tried again.

    Args:
        task: of held-out data.
        floor: share of full depth's quality below which no plan is followed.
        by_layer: a threshold for each layer, or as MuE one for all layers of a lane.
        measure: of the decoder's layers.
    """
    scores = task.lane_scores(measure)
    dials = _dials(scores, by_layer)
    full = task.run(ExitPlan())

    def run(plan: ExitPlan) -> Point:
        outcome = task.run(plan)
        return Point(plan, outcome, kept_share(outcome, full, task.metrics))

    here = Point(ExitPlan(decoder=LaneRule(measure=measure)), full, 1.0)
    path = [here]
    queue = [(-float("inf"), place) for place in range(len(dials))]
    while queue:
        _, place = heapq.heappop(queue)
        dial = dials[place]
        there = dial.step(here, scores[dial.lane], run)
        if there is None or there.kept < floor:
            continue  # further steps of this dial lose more
        worth = _worth(here, there)
        if queue and worth < -queue[0][0]:
            heapq.heappush(queue, (-worth, place))
            continue
        path.append(there)
        here = there
        heapq.heappush(queue, (-worth, place))
    return path


def _worth(here: Point, there: Point) -> float:
    saved = there.outcome.layers.reduction - here.outcome.layers.reduction
    return saved / max(here.kept - there.kept, SMALLEST_LOSS)


def _dials(scores: dict[LaneName, Tensor], by_layer: bool) -> list[_Dial]:
    dials = []
    for lane, found in scores.items():
        places = range(len(found) - 1)
        if by_layer:
            dials += [_Dial(lane, (place,), candidates(found[place])) for place in places]
        elif len(found) > 1:
            dials.append(_Dial(lane, tuple(places), candidates(found[:-1].flatten())))
    return dials


def best(points: Sequence[Point], floor: float) -> Point:
    """Return the point with the largest reduction among those that keep `floor` of the quality.

    Raises:
        ValueError: no point keeps so much.
    """
    kept = [point for point in points if point.kept >= floor]
    if not kept:
        raise ValueError(f"no plan keeps {floor:.3f} of the quality at full depth")
    return max(kept, key=lambda point: (point.outcome.layers.reduction, point.kept))
