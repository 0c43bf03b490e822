"""Choosing exit rules on held-out data: the largest time reduction at a given quality."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exeunt.engine.exit_policy.decay import DecaySpec
from exeunt.train.scenes.evaluation import Outcome, Task
from exeunt.train.scenes.exits import NEVER, ExitPlan, LaneRule, LayersUsed, TokenRule

NUM_THRESHOLDS = 6  # tried in each lane, with each latest layer
MAX_FRONT = 6  # rules of a lane that are tried together with those of the others
DECAYS = (None, DecaySpec(schedule="mue", beta=0.9, tau=4.0))


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


def candidates(cosines: Tensor, count: int) -> list[float]:
    """Return thresholds whose mean exit layers are spread from the first layer to the last.

    Args:
        cosines: f32[L, B] of a lane.
        count: how many, beside `NEVER`.
    """
    depth = cosines.shape[0]
    chosen: list[float] = []
    for wanted in torch.linspace(1.0, float(depth), count + 1)[:-1].tolist():
        low, high = -1.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            mean = float(LaneRule(middle).exits(cosines).double().mean())
            low, high = (middle, high) if mean < wanted else (low, middle)
        chosen.append(round(high, 4))
    return [*sorted(set(chosen)), NEVER]


def lane_rules(cosines: Tensor, latest: bool) -> list[LaneRule]:
    """Return rules for a lane, each of which lets the rows of f32[L, B] leave differently.

    Args:
        cosines: of the lane at full depth.
        latest: whether rules with a latest layer are among them, or one threshold for all layers.
    """
    layers: list[int | None] = [None]
    if latest:
        layers += range(1, cosines.shape[0])
    rules: dict[bytes, LaneRule] = {}
    for layer, threshold in itertools.product(layers, candidates(cosines, NUM_THRESHOLDS)):
        rule = LaneRule(threshold, layer)
        rules.setdefault(rule.exits(cosines).numpy().tobytes(), rule)
    return list(rules.values())


def search(task: Task, floor: float, *, latest: bool = True) -> list[Point]:
    """Return the outcomes of many plans.

    Each lane is searched alone, the others at full depth; the best of each are tried together.

    Args:
        task: of held-out data.
        floor: share of full depth's quality that a lane alone must keep.
        latest: whether rules may name a latest layer.
    """
    encoded = task.encoded
    full = task.run(ExitPlan())

    def point(plan: ExitPlan) -> Point:
        outcome = task.run(plan)
        return Point(plan, outcome, kept_share(outcome, full, task.metrics))

    image = [ExitPlan(image=rule) for rule in lane_rules(encoded.image_cosines, latest)]
    text = [ExitPlan(text=rule) for rule in lane_rules(encoded.text_cosines, latest)]
    tokens = [
        ExitPlan(decoder=TokenRule(rule.threshold, rule.latest, decay))
        for rule in lane_rules(task.token_cosines(), latest)
        for decay in (DECAYS if task.several_tokens and rule.threshold < NEVER else (None,))
    ]
    fronts = [
        _front([point(plan) for plan in plans], floor, mean)
        for plans, mean in (
            (image, lambda used: used.mean(used.image)),
            (text if encoded.decomposition else [ExitPlan()], lambda used: used.mean(used.text)),
            (tokens, lambda used: used.mean(used.tokens)),
        )
    ]
    together = [
        point(ExitPlan(first.plan.image, second.plan.text, third.plan.decoder))
        for first, second, third in itertools.product(*fronts)
    ]
    return [*together, point(ExitPlan())]


def _front(
    points: Sequence[Point], floor: float, mean: Callable[[LayersUsed], float]
) -> list[Point]:
    """Return points that keep the floor, the shallowest first; deeper ones only if they keep more.

    Of too many some are left out between the two ends.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (mean(p.outcome.layers), -p.kept)):
        if point.kept >= floor and (not front or point.kept > front[-1].kept):
            front.append(point)
    if len(front) <= MAX_FRONT:
        return front
    last = len(front) - 1
    return [front[round(place * last / (MAX_FRONT - 1))] for place in range(MAX_FRONT)]


def best(points: Sequence[Point], floor: float) -> Point:
    """Return the point with the largest reduction among those that keep `floor` of the quality.

    Raises:
        ValueError: no point keeps so much.
    """
    kept = [point for point in points if point.kept >= floor]
    if not kept:
        raise ValueError(f"no plan keeps {floor:.3f} of the quality at full depth")
    return max(kept, key=lambda point: (point.outcome.layers.reduction, point.kept))
