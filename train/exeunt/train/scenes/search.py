"""Choosing thresholds on held-out data: the largest time reduction at a given quality."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from exeunt.engine.exit_policy.decay import DecaySpec
from exeunt.train.scenes.evaluation import CaptionTask, EntailmentTask, Outcome, Task
from exeunt.train.scenes.exits import NEVER, ExitPlan, LaneRule, TokenRule

NUM_THRESHOLDS = 8  # of a lane that captions are searched over; half as many again of statements


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


def search_entailment(task: EntailmentTask, count: int) -> list[Point]:
    """Return the outcomes of a grid of thresholds of image, text and decoder."""
    encoded = task.encoded
    full = task.run(ExitPlan())
    image_thresholds = candidates(encoded.image_cosines, count)
    text_thresholds = candidates(encoded.text_cosines, count) if encoded.decomposition else [NEVER]
    points = []
    seen: set[tuple[bytes, bytes]] = set()
    for image_threshold in image_thresholds:
        for text_threshold in text_thresholds:
            image_rule, text_rule = LaneRule(image_threshold), LaneRule(text_threshold)
            image, text = encoded.exits(ExitPlan(image_rule, text_rule))
            key = (image.numpy().tobytes(), text.numpy().tobytes())
            if key in seen:
                continue
            seen.add(key)
            similarity, right = task.decoded(image, text)
            for threshold in candidates(similarity, 2 * count):
                rule = TokenRule(threshold)
                exits = rule.leave(0, similarity)
                chosen = right[exits - 1, torch.arange(len(exits))]
                outcome = Outcome(
                    {"accuracy": 100 * float(chosen.double().mean())},
                    encoded.used(image, text, exits),
                )
                plan = ExitPlan(image_rule, text_rule, rule)
                points.append(Point(plan, outcome, kept_share(outcome, full, task.metrics)))
    return points


def search_captions(
    task: CaptionTask, floor: float, decays: Sequence[DecaySpec | None], count: int
) -> list[Point]:
    """Return the outcomes of thresholds of image and decoder, at the laxest one of the text.

    The prompt is the same for all, so the text's threshold is chosen first and alone.

    Args:
        task: of held-out data.
        floor: share of full depth's quality below which laxer thresholds are not tried.
        decays: how the decoder's threshold may fall; None is not at all.
        count: thresholds of a lane.
    """
    encoded = task.encoded
    full = task.run(ExitPlan())
    token_thresholds = candidates(task.token_cosines(), 2 * count)
    text_rule = LaneRule()
    if encoded.decomposition:
        for threshold in candidates(encoded.text_cosines, encoded.text_cosines.shape[0]):
            text_rule = LaneRule(threshold)
            outcome = task.run(ExitPlan(text=text_rule))
            if kept_share(outcome, full, task.metrics) >= min(0.998, (1 + floor) / 2):
                break
    points = []
    for image_threshold in reversed(candidates(encoded.image_cosines, count)):
        image_rule = LaneRule(image_threshold)
        outcome = task.run(ExitPlan(image_rule, text_rule))
        kept = kept_share(outcome, full, task.metrics)
        points.append(Point(ExitPlan(image_rule, text_rule), outcome, kept))
        if kept < floor:
            break
        for decay in decays:
            plan = ExitPlan(image_rule, text_rule, TokenRule(decay=decay))
            points += _sweep_tokens(task, full, plan, token_thresholds, floor)
    return points


def _sweep_tokens(
    task: CaptionTask, full: Outcome, plan: ExitPlan, thresholds: Sequence[float], floor: float
) -> list[Point]:
    """Lower the decoder's threshold until the quality is below the floor."""
    points: list[Point] = []
    for threshold in reversed(thresholds):
        chosen = replace(plan, decoder=replace(plan.decoder, threshold=threshold))
        outcome = task.run(chosen)
        points.append(Point(chosen, outcome, kept_share(outcome, full, task.metrics)))
        if points[-1].kept < floor:
            break
    return points


def best(points: Sequence[Point], floor: float) -> Point:
    """Return the point with the largest reduction among those that keep `floor` of the quality.

    Raises:
        ValueError: no point keeps so much.
    """
    kept = [point for point in points if point.kept >= floor]
    if not kept:
        raise ValueError(f"no plan keeps {floor:.3f} of the quality at full depth")
    return max(kept, key=lambda point: (point.outcome.layers.reduction, point.kept))


def search(task: Task, floor: float) -> list[Point]:
    """Return the outcomes of many plans of a task; see the searches of each."""
    if isinstance(task, EntailmentTask):
        return search_entailment(task, NUM_THRESHOLDS * 3 // 2)
    decays = (None, DecaySpec(schedule="mue", beta=0.9, tau=4.0))
    return search_captions(task, floor, decays, NUM_THRESHOLDS)
