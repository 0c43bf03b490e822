"""Judging a batch after a layer: who leaves, why, and with which logits."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.backends.base import Tensors
from exeunt.engine.criteria import Evidence, next_streak
from exeunt.engine.criteria.base import answerable
from exeunt.engine.exit_policy.compiled import LanePolicy, Verdict
from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.step.batch import hidden_pair, run_head


def judge(
    lane: LanePlan, layer: int, units: Sequence[Unit], before: Tensors
) -> list[LaneExit | None]:
    """Return each unit's exit after this layer, None for those that stay.

    Units admitted under different policies may share the batch: each is judged by its own.

    Args:
        lane: the lane they walk.
        layer: the one that just ran, counting from 1.
        units: hold the states after it.
        before: the layer's gathered inputs by state, for the states that cosine compares.
    """
    first = units[0].policy
    if all(unit.policy is first for unit in units):
        return _judge_alike(first, lane, layer, units, before)
    rows = units[0].rows
    exits: list[LaneExit | None] = [None] * len(units)
    by_policy: dict[int, list[int]] = {}
    for place, unit in enumerate(units):
        by_policy.setdefault(id(unit.policy), []).append(place)
    for places in by_policy.values():
        index = (np.asarray(places)[:, np.newaxis] * rows + np.arange(rows)).ravel()
        part = {state: array[index] for state, array in before.items()}
        some = [units[place] for place in places]
        for place, found in zip(
            places, _judge_alike(some[0].policy, lane, layer, some, part), strict=True
        ):
            exits[place] = found
    return exits


def _judge_alike(
    policy: LanePolicy, lane: LanePlan, layer: int, units: Sequence[Unit], before: Tensors
) -> list[LaneExit | None]:
    last = layer == lane.depth
    if not policy.rules:
        return _at_depth(lane, units) if last else [None] * len(units)
    logits = None
    if layer in lane.heads and policy.wants_head(layer):
        logits = run_head(lane.heads[layer], units)
    streak = _count_streak(units, logits) if policy.counts_streak else None
    if layer < policy.first_exit and not last:
        return [None] * len(units)
    old, new, valid = (
        hidden_pair(lane.spec.compare, before, units) if policy.reads_hidden else (None,) * 3
    )
    verdict = policy.judge(Evidence(layer, logits, old, new, valid, streak), len(units))
    exits: list[LaneExit | None] = [None] * len(units)
    leaving = [place for place, leaves in enumerate(verdict.leave) if leaves]
    _leave(policy, lane, layer, units, logits, verdict, leaving, exits)
    if last:
        staying = [place for place, found in enumerate(exits) if found is None]
        rest = [units[place] for place in staying]
        scores = verdict.scores[0, staying]
        # Without a head of its own for full depth, the last exit's logits are the answer already.
        known = None if lane.final_head or logits is None else logits[staying]
        for place, found in zip(staying, _at_depth(lane, rest, policy, scores, known), strict=True):
            exits[place] = found
    return exits


def _leave(
    policy: LanePolicy,
    lane: LanePlan,
    layer: int,
    units: Sequence[Unit],
    logits: NDArray[np.float32] | None,
    verdict: Verdict,
    leaving: list[int],
    exits: list[LaneExit | None],
) -> None:
    """Write the exits of the leaving units; one whose answer is not finite stays."""
    if not leaving:
        return
    answers: NDArray[np.float32] | None = None
    if layer in lane.heads:
        answers = (
            logits[leaving]
            if logits is not None
            else run_head(lane.heads[layer], [units[place] for place in leaving])
        )
    elif lane.last_head is not None:
        return  # no exit head after this layer: there is nothing to answer with
    sound = answerable(answers) if answers is not None else np.ones(len(leaving), dtype=np.bool_)
    for order, place in enumerate(leaving):
        if not sound[order]:
            continue
        which = int(verdict.rule[place])
        rule = policy.rules[which]
        exits[place] = LaneExit(
            layer,
            rule.name,
            True,
            float(verdict.scores[which, place]),
            rule.thresholds[layer - 1],
            None if answers is None else answers[order],
        )


def _at_depth(
    lane: LanePlan,
    units: Sequence[Unit],
    policy: LanePolicy | None = None,
    scores: NDArray[np.float32] | None = None,
    logits: NDArray[np.float32] | None = None,
) -> list[LaneExit | None]:
    """Return the exits of units that ran to the end without a rule that fired.

    logits: [U, C] of the last head, where it has run already.
    """
    if not units:
        return []
    if logits is None and lane.last_head is not None:
        logits = run_head(lane.last_head, units)
    exits: list[LaneExit | None] = []
    for place in range(len(units)):
        rule = policy.rules[0] if policy else None
        score = float(scores[place]) if scores is not None else None
        exits.append(
            LaneExit(
                lane.depth,
                rule.name if rule else "never",
                False,
                None if score is None or score != score else score,
                rule.thresholds[-1] if rule else None,
                None if logits is None else logits[place],
            )
        )
    return exits


def at_depth_zero(lane: LanePlan, units: Sequence[Unit]) -> list[LaneExit | None]:
    """Return the exits of units in a lane that has no layers."""
    return _at_depth(lane, units)


def _count_streak(units: Sequence[Unit], logits: NDArray[np.float32] | None) -> NDArray[np.int64]:
    """Advance and return the units' patience streaks; without a head they stay as they are."""
    streak = np.fromiter((unit.streak for unit in units), dtype=np.int64, count=len(units))
    if logits is None:
        return streak
    answers = np.fromiter((unit.answer for unit in units), dtype=np.int64, count=len(units))
    answers, streak = next_streak(logits, answers, streak)
    for place, unit in enumerate(units):
        unit.answer, unit.streak = int(answers[place]), int(streak[place])
    return streak
