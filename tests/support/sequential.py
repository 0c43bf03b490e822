"""The papers' sequential algorithm: one sample, one layer after the other, no batch, no scheduler.

Written from the manifest's rules alone, so that the engine is compared with something that shares
none of its step code: it calls the same segments, and scores them with `tests.support.scores`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.bundle.manifest import LaneSpec, Manifest
from exeunt.engine.exit_policy import LaneRules, RuleSpec
from tests.support import scores

Array = NDArray[Any]
Load = Callable[[str], LoadedSegment]


@dataclass
class Left:
    """Where one unit (or one token of a loop) left its lane, with its answer where it has one."""

    layer: int
    fired: str | None
    logits: Array | None


@dataclass
class Walk:
    """A sample's whole walk. nearest: the least distance of any score from its threshold."""

    left: dict[str, list[Left]] = field(default_factory=dict)
    states: dict[str, dict[str, Array]] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    nearest: float = float("inf")

    def layers(self, lane: str) -> list[int]:
        """Return the exit layers of a lane's units or tokens."""
        return [left.layer for left in self.left[lane]]


class SequentialModel:
    """Walks samples through a manifest's lanes.

    load: the backend's segments by name. rules: by lane; a lane without any runs to its end.
    """

    def __init__(
        self, manifest: Manifest, load: Load, rules: Mapping[str, LaneRules] | None = None
    ) -> None:
        self._manifest = manifest
        self._segments = {name: load(name) for name in manifest.segments}
        self._rules = rules or {}

    def walk(self, tensors: Mapping[str, Array], task: str | None = None) -> Walk:
        """Walk one sample; its tensors have a sample axis of one."""
        answering = next(
            spec.lane for spec in self._manifest.tasks if task is None or spec.name == task
        )
        walk = Walk()
        self._lane(answering, {name: array[0] for name, array in tensors.items()}, walk)
        return walk

    def follow(self, tensors: Mapping[str, Array], tokens: list[int]) -> list[Left]:
        """Walk a single task's loop along given tokens; return where each step left.

        The last one's logits are those of what follows the tokens.
        """
        lane = self._manifest.lane(self._manifest.tasks[0].lane)
        walk, own = Walk(), dict[str, Array]()
        sample = {name: array[0] for name, array in tensors.items()}
        for source in lane.join:
            self._lane(source, sample, walk)
        unit = _Unit(self, lane, [0], own, sample, walk, forced=list(tokens))
        unit.walk()
        return walk.left[lane.name]

    def _lane(self, name: str, tensors: Mapping[str, Array], walk: Walk) -> None:
        if name in walk.states:
            return
        lane = self._manifest.lane(name)
        for source in lane.join:
            self._lane(source, tensors, walk)
        size = lane.rows if lane.unit == "group" else 1
        units = []
        for first in range(0, lane.rows, size):
            own: dict[str, Array] = {}
            unit = _Unit(self, lane, list(range(first, first + size)), own, tensors, walk)
            unit.walk()
            units.append(own)
        walk.states[name] = {
            state: np.concatenate([own[state] for own in units]) for state in units[0]
        }

    def run(self, segment: str, read: Callable[[str], Array]) -> dict[str, Array]:
        """Run a segment; returns its outputs by the name of the state they belong to."""
        spec = self._manifest.segments[segment]
        inputs = {graph: np.ascontiguousarray(read(text)) for graph, text in spec.inputs.items()}
        outputs = self._segments[segment].run(inputs)
        return {text.rpartition(".")[2]: outputs[graph] for graph, text in spec.outputs.items()}

    def rules_of(self, lane: str) -> LaneRules | None:
        """Return the rules of a lane."""
        return self._rules.get(lane)

    def per_row(self, tensor: str) -> bool:
        """Return whether a raw tensor has a slice for each row."""
        return self._manifest.tensors[tensor].per == "row"


@dataclass
class _Unit:
    model: SequentialModel
    lane: LaneSpec
    rows: list[int]
    own: dict[str, Array]
    tensors: Mapping[str, Array]
    walk_: Walk
    tokens: list[int] = field(default_factory=list)
    caches: dict[str, list[Array]] = field(default_factory=dict)  # by state, a slice for each token
    layer: int = 0
    forced: list[int] | None = None  # tokens to follow, in place of the best ones

    def walk(self) -> None:
        lane = self.lane
        self.caches = {name: [] for cache in lane.caches for name in cache.appended}
        for name in lane.setup:
            self.own |= self.model.run(name, self.read)
        while True:
            left = self.once()
            self.walk_.left.setdefault(lane.name, []).append(left)
            if lane.loop is None:
                return
            assert left.logits is not None
            if left.layer < len(lane.layers) and lane.caches:
                self.skip(left.layer)
            if self.forced is not None:
                if len(self.tokens) == len(self.forced):
                    return
                self.tokens.append(self.forced[len(self.tokens)])
                continue
            self.tokens.append(self.next_token(left.logits))
            if self.tokens[-1] == lane.loop.eos or len(self.tokens) == lane.loop.max_steps:
                self.walk_.tokens = self.tokens
                return

    def once(self) -> Left:
        lane = self.lane
        if lane.entry:
            self.own |= self.model.run(lane.entry, self.read)
        answers: list[int] = []
        for layer, name in enumerate(lane.layers, 1):
            if layer in lane.contexts and not set(lane.caches[layer - 1].context) <= set(self.own):
                self.own |= self.model.run(lane.contexts[layer], self.read)
            before, self.layer = dict(self.own), layer
            self.take(self.model.run(name, self.read))
            logits = self.head(lane.heads[layer]) if layer in lane.heads else None
            if logits is not None:
                answers.append(int(np.argmax(logits)))
            rules = self.model.rules_of(lane.name)
            if rules and (logits is not None or not (lane.heads or lane.final_head)):
                fired = [
                    self.fires(rule, layer, before, logits, answers)
                    for rule in rules.any or rules.all
                ]
                if any(fired) if rules.any else all(fired):
                    which = (rules.any or rules.all)[fired.index(True)].criterion
                    return Left(layer, which, logits)
        last = lane.final_head or lane.heads.get(len(lane.layers))
        return Left(len(lane.layers), None, self.head(last) if last else None)

    def take(self, outputs: dict[str, Array]) -> None:
        """Keep a segment's outputs: slices behind the caches, states in place of the old ones."""
        for name, array in outputs.items():
            if name in self.caches:
                self.caches[name].append(array)
            else:
                self.own[name] = array

    def skip(self, layer: int) -> None:
        """Fill the caches of the layers behind an exit, at once and one after the other."""
        rules, lane = self.model.rules_of(self.lane.name), self.lane
        assert rules is not None
        exit_caches = lane.caches[layer - 1]
        for other in range(layer + 1, len(lane.layers) + 1):
            own = lane.caches[other - 1]
            if rules.fill == "propagate":
                self.take(self.model.run(lane.propagate[other], self.read))
            elif rules.fill == "copy-token":
                for source, name in zip(exit_caches.appended, own.appended, strict=True):
                    self.caches[name].append(self.caches[source][-1])
            elif rules.fill == "copy-layer":
                for source, name in zip(exit_caches.appended, own.appended, strict=True):
                    self.caches[name] = list(self.caches[source])
                for source, name in zip(exit_caches.context, own.context, strict=True):
                    self.own[name] = self.own[source]

    def next_token(self, logits: Array) -> int:
        loop = self.lane.loop
        assert loop is not None
        allowed = np.ones(len(logits), dtype=bool)
        allowed[list(loop.never)] = False
        if len(self.tokens) < loop.min_tokens:
            allowed[loop.eos] = False
        if loop.closed and len(self.tokens) == loop.max_steps - 1:
            allowed = np.arange(len(logits)) == loop.eos
        return int(np.argmax(np.where(allowed, logits, -np.inf)))

    def cache(self, name: str) -> Array:
        spec = self.lane.state[name]
        shape = (1, *(int(dim) for dim in spec.shape))
        whole = np.zeros(shape, dtype=spec.dtype)
        for place, one in enumerate(self.caches[name]):
            whole[:, place] = one
        return whole

    def threshold(self, rule: RuleSpec, layer: int) -> float:
        """Return a rule's threshold at this layer and this token."""
        theta = rule.threshold[layer - 1] if isinstance(rule.threshold, tuple) else rule.threshold
        assert theta is not None
        decay, loop = rule.options.decay, self.lane.loop
        if decay is None:
            return theta
        assert loop is not None
        step, total = len(self.tokens), decay.steps or loop.max_steps
        falling = math.exp(-decay.tau * step / total)
        if decay.schedule == "mue":
            return decay.beta * theta + (1 - decay.beta) * falling
        if decay.schedule == "calm":
            return min(1.0, max(0.0, 0.9 * theta + 0.1 * falling))
        if decay.schedule == "t5x":
            return theta * (0.9 + 0.1 * falling)
        return 1.0 if step < total / 3 else 0.9 * theta + 0.1 * math.exp(-(step + 1) / total)

    def fires(
        self,
        rule: RuleSpec,
        layer: int,
        before: Mapping[str, Array],
        logits: Array | None,
        answers: list[int],
    ) -> bool:
        if rule.criterion == "never" or layer < rule.min_layer:
            return False
        threshold = self.threshold(rule, layer)
        if rule.criterion == "cosine":
            score = self.similarity(before, rule.options.reduction)
            return self.note(score, threshold) and score > threshold
        assert logits is not None
        if rule.criterion == "patience":
            streak = 0
            for one, next_one in pairwise(answers):
                streak = streak + 1 if one == next_one else 0
            return 0 < threshold <= streak
        if rule.criterion == "entropy":
            score = scores.entropy(logits) / (
                np.log(len(logits)) if rule.options.normalized else 1.0
            )
            return self.note(score, threshold) and score < threshold
        if rule.criterion == "margin":
            score = scores.margin(logits)
            return self.note(score, threshold) and score > threshold
        temperature = rule.options.temperature
        heat = temperature[layer - 1] if isinstance(temperature, tuple) else temperature
        score = scores.confidence(logits, heat)
        return self.note(score, threshold) and score >= threshold

    def note(self, score: float, threshold: float) -> bool:
        self.walk_.nearest = min(self.walk_.nearest, abs(score - threshold))
        return True

    def similarity(self, before: Mapping[str, Array], reduction: str) -> float:
        old, new, valid = [], [], []
        for state, mask in self.lane.compare.items():
            width = self.own[state].shape[-1]
            old.append(before[state].reshape(-1, width))
            new.append(self.own[state].reshape(-1, width))
            valid.append(self.own[mask].ravel() > 0 if mask else np.ones(len(old[-1]), dtype=bool))
        return scores.cosine(
            np.concatenate(old), np.concatenate(new), np.concatenate(valid), reduction
        )

    def head(self, name: str) -> Array:
        grouped = self.lane.unit == "group" and self.lane.rows > 1

        def read(text: str) -> Array:
            return self.read(text)[np.newaxis] if grouped else self.read(text)

        logits: Array = self.model.run(name, read)["logits"][0]
        return logits

    def read(self, text: str) -> Array:
        scope, _, name = text.rpartition(".")
        if not scope:
            return self.cache(name) if name in self.caches else self.own[name]
        if scope == "loop":
            return self.loop(name)
        if scope == "input":
            source = self.tensors[name] if self.model.per_row(name) else self.tensors[name][None]
        else:
            source = self.walk_.states[scope][name]
        if len(source) == self.lane.rows:
            return source[self.rows]
        if len(source) == 1:
            return np.repeat(source, len(self.rows), axis=0)
        assert self.lane.rows == 1, "many rows can only be seen by a single one"
        return source[None]

    def loop(self, name: str) -> Array:
        loop = self.lane.loop
        assert loop is not None
        known = [loop.start, *self.tokens]
        line: dict[str, list[int] | int] = {
            "tokens": known + [loop.pad] * (loop.max_steps + 1 - len(known)),
            "token": known[-1:],
            "step": len(self.tokens),
        }
        if self.lane.caches and self.layer:
            line["cached"] = len(self.caches[self.lane.caches[self.layer - 1].appended[0]])
        return np.asarray([line[name]] * len(self.rows), dtype=np.int64)
