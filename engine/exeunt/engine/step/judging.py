"""Judging a batch after a layer: who leaves, why, and with which logits."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.criteria import Evidence, next_streak
from exeunt.engine.criteria.base import answerable
from exeunt.engine.exit_policy.compiled import LanePolicy, Verdict
from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.step.ran import Logits, Ran

Exits = dict[int, LaneExit]  # by place in the batch; who is not in it stays
Places = NDArray[np.intp]  # of some units in the batch
Scalar = TypeVar("Scalar", bound=np.generic)


def judge(ran: Ran) -> Exits:
    """Return who leaves after the layer that has just run.

    Units admitted under different policies may share the batch: each is judged by its own. Those
    whose policies differ in thresholds alone are judged together.
    """
    policies = [unit.policy for unit in ran.units]
    kind = policies[0].kind
    if all(policy.kind is kind for policy in policies):
        return _judge_alike(ran, policies, None)
    by_kind: dict[int, list[int]] = {}
    for place, policy in enumerate(policies):
        by_kind.setdefault(id(policy.kind), []).append(place)
    exits: Exits = {}
    for places in by_kind.values():
        some = [policies[place] for place in places]
        found = _judge_alike(ran, some, np.asarray(places, dtype=np.intp))
        exits |= {places[order]: left for order, left in found.items()}
    return exits


def _judge_alike(ran: Ran, policies: Sequence[LanePolicy], places: Places | None) -> Exits:
    """Judge units by rules that differ in thresholds alone.

    Args:
        ran: the batch.
        policies: of the units judged here.
        places: theirs in the batch; None for the whole of it.

    Returns:
        The exits by the units' order in `policies`.
    """
    lane, layer, policy = ran.lane, ran.layer, policies[0]
    last = layer == lane.depth
    if not policy.rules:
        return at_depth(ran, places, range(len(policies))) if last else {}
    logits = None
    if layer in lane.heads and policy.wants_head(layer):
        logits = _some(ran.logits(lane.heads[layer]), places)
    streak = _count_streak(ran, logits, places) if policy.counts_streak else None
    if layer < policy.first_exit and not last:
        return {}
    old = new = valid = None
    if policy.reads_hidden:
        whole_old, whole_new, whole_valid = ran.compared()
        old, new = _some(whole_old, places), _some(whole_new, places)
        valid = None if whole_valid is None else _some(whole_valid, places)
    evidence = Evidence(layer, logits, old, new, valid, streak)
    steps = _steps(ran, places) if policy.decays else None
    verdict = policy.judge(evidence, len(policies), _thresholds(policies, layer, steps))
    exits = _leave(ran, policies, logits, verdict, places) if verdict.leave.any() else {}
    if last:
        rest = [order for order in range(len(policies)) if order not in exits]
        exits |= at_depth(ran, places, rest, policies, verdict.scores[0])
    return exits


def _some(array: NDArray[Scalar], places: Places | None) -> NDArray[Scalar]:
    return array if places is None else array[places]


def _steps(ran: Ran, places: Places | None) -> list[int]:
    """Return the steps of the loop at which the units judged together stand."""
    chosen = range(len(ran.units)) if places is None else places.tolist()
    return [len(ran.units[place].tokens) for place in chosen]


def _thresholds(
    policies: Sequence[LanePolicy], layer: int, steps: Sequence[int] | None
) -> NDArray[np.float64]:
    """Return the rules' thresholds after this layer: [R, 1], or [R, U] where units differ."""
    first = policies[0]
    if steps is not None:
        rows = [
            [rule.threshold(layer, step) for rule in policy.rules]
            for policy, step in zip(policies, steps, strict=True)
        ]
        return np.array(rows, dtype=np.float64).T
    if all(policy is first for policy in policies):
        return first.thresholds[layer - 1]
    if len(first.rules) == 1:
        of_one = (policy.limits[layer - 1][0] for policy in policies)
        return np.fromiter(of_one, dtype=np.float64, count=len(policies))[np.newaxis]
    return np.array([policy.limits[layer - 1] for policy in policies], dtype=np.float64).T


def _leave(
    ran: Ran,
    policies: Sequence[LanePolicy],
    logits: Logits | None,
    verdict: Verdict,
    places: Places | None,
) -> Exits:
    """Return the exits of units for which a rule fired; one whose answer is not finite stays."""
    lane, layer = ran.lane, ran.layer
    leaving = np.flatnonzero(verdict.leave)
    answers: Logits | None = None
    sound: NDArray[np.bool_] | None = None
    if logits is not None:
        answers = logits[leaving]  # finite, or no rule had fired
    elif layer in lane.heads:
        whole = ran.logits(lane.heads[layer])
        answers = whole[leaving if places is None else places[leaving]]
        sound = answerable(answers)
    elif lane.last_head is not None:
        return {}  # no exit head after this layer: there is nothing to answer with
    exits: Exits = {}
    for row, order in enumerate(leaving.tolist()):
        if sound is not None and not sound[row]:
            continue
        which = int(verdict.rule[order])
        rule = policies[order].rules[which]
        exits[order] = LaneExit(
            layer,
            rule.name,
            True,
            float(verdict.scores[which, order]),
            rule.threshold(layer, len(ran.units[_place(places, order)].tokens)),
            None if answers is None else answers[row],
        )
    return exits


def at_depth(
    ran: Ran,
    places: Places | None,
    orders: Sequence[int],
    policies: Sequence[LanePolicy] | None = None,
    scores: NDArray[np.float32] | None = None,
) -> Exits:
    """Return the exits of units that ran to the end without a rule that fired.

    Args:
        ran: the batch.
        places: of the units judged together; None for the whole batch.
        orders: which of those ran to the end.
        policies: of the units judged together; None under `never`.
        scores: [U] of the first rule, NaN where it had none.
    """
    if not orders:
        return {}
    head = ran.lane.last_head
    chosen = np.asarray(orders, dtype=np.intp)
    logits = ran.logits(head)[chosen if places is None else places[chosen]] if head else None
    exits: Exits = {}
    for row, order in enumerate(orders):
        rule = policies[order].rules[0] if policies else None
        score = None if scores is None else float(scores[order])
        exits[order] = LaneExit(
            ran.lane.depth,
            rule.name if rule else "never",
            False,
            None if score is None or score != score else score,
            rule.threshold(ran.lane.depth, len(ran.units[_place(places, order)].tokens))
            if rule
            else None,
            None if logits is None else logits[row],
        )
    return exits


def _place(places: Places | None, order: int) -> int:
    return order if places is None else int(places[order])


def _count_streak(ran: Ran, logits: Logits | None, places: Places | None) -> NDArray[np.int64]:
    """Advance and return the units' patience streaks; without a head they stay as they are."""
    slab = ran.runner.slab
    slots = ran.slots if places is None else ran.slots[places]
    streak: NDArray[np.int64] = slab.streaks[slots]
    if logits is None:
        return streak
    answers, streak = next_streak(logits, slab.answers[slots], streak)
    slab.answers[slots], slab.streaks[slots] = answers, streak
    return streak
