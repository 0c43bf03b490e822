"""An exit policy made ready for the step loop: rules by lane, thresholds by layer."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import LaneSpec, Manifest
from exeunt.engine.criteria import (
    Confidence,
    Cosine,
    Criterion,
    Entropy,
    Evidence,
    Margin,
    Patience,
)
from exeunt.engine.criteria.base import answerable
from exeunt.engine.errors import ExitPolicyError
from exeunt.engine.exit_policy.format import ExitPolicy, Fills, LaneRules, RuleSpec


@dataclass(frozen=True)
class Rule:
    """One criterion of a lane.

    thresholds: one for each layer. by_step: where they fall from step to step, those of each.
    """

    name: str
    criterion: Criterion
    thresholds: tuple[float, ...]
    min_layer: int
    by_step: tuple[tuple[float, ...], ...] = ()

    def threshold(self, layer: int, step: int) -> float:
        """Return the threshold after a layer, at a step of a loop."""
        return self.by_step[step][layer - 1] if self.by_step else self.thresholds[layer - 1]


@dataclass(frozen=True)
class _Kind:
    """A lane's rules without their thresholds: (name, criterion, min_layer) of each."""

    rules: tuple[tuple[str, Criterion, int], ...]
    need_all: bool
    decays: bool


@lru_cache(maxsize=1024)
def _kind(rules: tuple[tuple[str, Criterion, int], ...], need_all: bool, decays: bool) -> _Kind:
    """Return the one object that stands for such rules, so that the step compares identities."""
    return _Kind(rules, need_all, decays)


@dataclass(frozen=True)
class Verdict:
    """What the rules answer for U units after one layer.

    leave: [U] bool. rule: [U] int, the deciding rule's place in the lane's list (the first where
    none fired). scores: [R, U], each rule's score.
    """

    leave: NDArray[np.bool_]
    rule: NDArray[np.intp]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class LanePolicy:
    """The rules of one lane under one task.

    reads_logits, reads_hidden: whether any rule does; a layer's exit head runs only for that. With
    no rules the lane runs to full depth. kind: everything but the thresholds; one and the same
    object for policies that are alike. thresholds: by layer, each [R, 1]. limits: the same as
    plain numbers, R for each layer. decays: whether thresholds fall from step to step. fill: what
    the caches of skipped layers hold.
    """

    rules: tuple[Rule, ...] = ()
    need_all: bool = False
    fill: Fills = "propagate"
    decays: bool = field(init=False)
    reads_logits: bool = field(init=False)
    reads_hidden: bool = field(init=False)
    counts_streak: bool = field(init=False)
    first_exit: int = field(init=False)
    kind: "_Kind" = field(init=False)
    thresholds: tuple[NDArray[np.float64], ...] = field(init=False, compare=False)
    limits: tuple[tuple[float, ...], ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Derive what the rules read from the rules."""
        reads = {rule.criterion.reads for rule in self.rules}
        earliest = [rule.min_layer for rule in self.rules]
        first = (max(earliest) if self.need_all else min(earliest)) if earliest else 1 << 30
        limits = tuple(zip(*(rule.thresholds for rule in self.rules), strict=True))
        decays = any(rule.by_step for rule in self.rules)
        derived = {
            "decays": decays,
            "reads_logits": "logits" in reads,
            "reads_hidden": "hidden" in reads,
            "counts_streak": any(rule.name == "patience" for rule in self.rules),
            "first_exit": first,
            "kind": _kind(
                tuple((rule.name, rule.criterion, rule.min_layer) for rule in self.rules),
                self.need_all,
                decays,
            ),
            "thresholds": tuple(
                np.array(column, dtype=np.float64)[:, np.newaxis] for column in limits
            ),
            "limits": limits,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def wants_head(self, layer: int) -> bool:
        """Return whether the exit head after this layer must run."""
        return self.reads_logits and (layer >= self.first_exit or self.counts_streak)

    def judge(
        self, evidence: Evidence, units: int, thresholds: NDArray[np.float64] | None = None
    ) -> Verdict:
        """Return which of the units may leave after `evidence.layer`, by which rule and score.

        Units whose logits hold no finite answer never leave.

        Args:
            evidence: what the layer showed of U units.
            units: U.
            thresholds: [R, 1] or [R, U], of units whose policies differ from this one in their
                thresholds; this policy's own by default.
        """
        limits = self.thresholds[evidence.layer - 1] if thresholds is None else thresholds
        layer = evidence.layer
        if len(self.rules) == 1 and (evidence.logits is not None) == self.reads_logits:
            return self._judge_by_one(evidence, units, limits[0])
        scores = np.full((len(self.rules), units), np.nan, dtype=np.float32)
        fired = np.zeros((len(self.rules), units), dtype=np.bool_)
        for place, rule in enumerate(self.rules):
            if rule.criterion.reads == "logits" and evidence.logits is None:
                continue  # no exit head after this layer
            scores[place] = rule.criterion.score(evidence)
            if layer >= rule.min_layer:
                fired[place] = rule.criterion.fires(scores[place], limits[place])
        if evidence.logits is not None:
            fired &= answerable(evidence.logits)
        leave: NDArray[np.bool_] = (
            np.logical_and.reduce(fired) if self.need_all else (np.logical_or.reduce(fired))
        )
        return Verdict(leave, fired.argmax(axis=0), scores)

    def _judge_by_one(self, evidence: Evidence, units: int, limits: NDArray[np.float64]) -> Verdict:
        """Judge by the only rule, in fewer steps: most policies have one.

        A score made of logits is NaN, and a streak 0, where they hold no finite answer: neither
        fires.
        """
        (rule,) = self.rules
        scores = rule.criterion.score(evidence)
        leave = np.zeros(units, dtype=np.bool_)
        if evidence.layer >= rule.min_layer:
            leave = rule.criterion.fires(scores, limits)
        return Verdict(leave, np.zeros(units, dtype=np.intp), scores[np.newaxis])


@dataclass(frozen=True)
class CompiledPolicy:
    """An exit policy that fits a bundle. lanes: by task and lane name."""

    policy: ExitPolicy
    lanes: dict[tuple[str, str], LanePolicy]

    @property
    def version(self) -> int:
        """The deployment's own number of this policy."""
        return self.policy.version


def compile_policy(policy: ExitPolicy, manifest: Manifest) -> CompiledPolicy:
    """Return the policy with its rules laid out for every task and lane of the bundle.

    Raises:
        ExitPolicyError: a task, lane or layer is not there, or a lane cannot be judged that way.
    """
    tasks = [task.name for task in manifest.tasks]
    if unknown := sorted(set(policy.tasks) - {*tasks, "default"}):
        raise ExitPolicyError(f"exit policy names tasks {unknown}; the bundle has {tasks}")
    names = [lane.name for lane in manifest.lanes]
    for task, lanes in policy.tasks.items():
        if unknown := sorted(set(lanes) - set(names)):
            raise ExitPolicyError(
                f"exit policy names lanes {unknown} under {task!r}; the bundle has {names}"
            )
    compiled = {}
    for task in tasks:
        chosen = policy.tasks.get(task, policy.tasks.get("default", {}))
        for lane in manifest.lanes:
            rules = chosen.get(lane.name)
            compiled[task, lane.name] = _compile_lane(rules, lane) if rules else LanePolicy()
    return CompiledPolicy(policy, compiled)


def _compile_lane(rules: LaneRules, lane: LaneSpec) -> LanePolicy:
    specs = rules.any or rules.all
    active = [spec for spec in specs if spec.criterion != "never"]
    if rules.all and len(active) < len(specs):
        return LanePolicy()  # `all` with a rule that never fires never fires
    for spec in active:
        if spec.criterion not in lane.scores:
            raise ExitPolicyError(
                f"lane {lane.name!r} cannot be judged by {spec.criterion}: it offers"
                f" {list(lane.scores) or 'no criterion'}"
            )
        if spec.min_layer > lane.depth:
            raise ExitPolicyError(
                f"min_layer {spec.min_layer} is beyond the {lane.depth} layers of lane"
                f" {lane.name!r}"
            )
    _check_fill(rules, lane, any(spec.min_layer < lane.depth for spec in active))
    compiled = tuple(
        Rule(
            spec.criterion,
            _criterion(spec, lane),
            _thresholds(spec, lane),
            spec.min_layer,
            _by_step(spec, lane),
        )
        for spec in active
    )
    return LanePolicy(compiled, need_all=bool(rules.all), fill=rules.fill)


def _check_fill(rules: LaneRules, lane: LaneSpec, leaves_early: bool) -> None:
    """Refuse a filling that the lane has no caches for, or no segments."""
    if not lane.caches:
        if "fill" in rules.model_fields_set:
            raise ExitPolicyError(
                f"lane {lane.name!r} keeps no caches that `fill` could fill: remove it"
            )
        return
    skippable = set(range(2, lane.depth + 1))
    if leaves_early and rules.fill == "propagate" and set(lane.propagate) != skippable:
        raise ExitPolicyError(
            f"lane {lane.name!r} has no `propagate` segments for layers"
            f" {sorted(skippable - set(lane.propagate))}, so the caches of skipped layers cannot be"
            " computed: name another `fill` (copy-token, copy-layer, mue), or use `never`"
        )


def _by_step(spec: RuleSpec, lane: LaneSpec) -> tuple[tuple[float, ...], ...]:
    decay = spec.options.decay
    if decay is None:
        return ()
    if lane.loop is None:
        raise ExitPolicyError(
            f"lane {lane.name!r} does not loop, so no threshold of it can fall from step to step:"
            " remove `decay`"
        )
    steps, static = lane.loop.max_steps, _thresholds(spec, lane)
    if decay.schedule == "mue-code" and steps <= (decay.steps or steps) / 3:
        raise ExitPolicyError(
            f"the schedule mue-code of {decay.steps} steps begins to fall after"
            f" {decay.steps} / 3, and the loop of lane {lane.name!r} has {steps}: nothing would"
            f" ever leave; let `steps` be less than {3 * steps}, or leave it out"
        )
    return tuple(tuple(decay.at(theta, step, steps) for theta in static) for step in range(steps))


def _criterion(spec: RuleSpec, lane: LaneSpec) -> Criterion:
    options = spec.options
    match spec.criterion:
        case "entropy":
            return Entropy(normalized=options.normalized)
        case "patience":
            return Patience()
        case "cosine":
            return Cosine(reduction=options.reduction)
        case "confidence":
            return Confidence(temperature=_by_layer(options.temperature, lane, "temperature"))
        case "margin":
            return Margin()
        case _:
            raise AssertionError(f"{spec.criterion} has no score")


def _thresholds(spec: RuleSpec, lane: LaneSpec) -> tuple[float, ...]:
    assert spec.threshold is not None, "RuleSpec requires a threshold of every scored criterion"
    return _by_layer(spec.threshold, lane, "threshold")


def _by_layer(value: float | tuple[float, ...], lane: LaneSpec, what: str) -> tuple[float, ...]:
    if not isinstance(value, tuple):
        return (value,) * lane.depth
    if len(value) != lane.depth:
        raise ExitPolicyError(
            f"lane {lane.name!r} has {lane.depth} layers, found {len(value)} values of {what}:"
            " give a number, or one for each layer"
        )
    return value
