"""Exits at a wanted mean depth by thresholds alone: the product's own path, nothing overridden.

The entropies of a model with random weights say nothing, but they differ from sample to sample. A
threshold for each layer, between two of the entropies that the samples have there, lets as many
samples leave there as a distribution of exits asks for.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.workloads.exits import draw_exits
from exeunt.bench.workloads.lane import single_lane
from exeunt.engine import Engine
from exeunt.engine.exit_policy import ExitPolicy, LaneRules, RuleSpec

EVERYBODY = 1e9  # above every entropy
PROBE_ROWS = 16


def calibrated_policy(
    engine: Engine, samples: Sequence[Mapping[str, object]], exits: str
) -> tuple[ExitPolicy, float]:
    """Return the entropy policy under which the samples leave as `exits` says, and their rho.

    Args:
        engine: opened on a bundle of one lane whose exits offer entropy, with the backend and the
            precision that are to serve: other ones move the entropies.
        samples: what `Engine.prepare` takes, as they will be sent.
        exits: a distribution; see `exeunt.bench.workloads.exits`.

    Raises:
        ConfigError: there is no such distribution, or the bundle has several lanes.
        InputError: a sample cannot be used.
    """
    lane = single_lane(engine.manifest)
    scores = entropies(engine, samples)
    wanted = np.bincount(draw_exits(exits, lane.depth, len(samples)), minlength=lane.depth + 1)[1:]
    thresholds, left = layer_thresholds(scores, wanted)
    rule = RuleSpec(criterion="entropy", threshold=tuple(thresholds))
    policy = ExitPolicy(version=1, tasks={"default": {lane.name: LaneRules(any=(rule,))}})
    return policy, float(left.mean()) / lane.depth


def entropies(engine: Engine, samples: Sequence[Mapping[str, object]]) -> NDArray[np.float32]:
    """Return the entropy of each sample after each layer, f32[L, N]."""
    lane = single_lane(engine.manifest)
    prepared = [engine.prepare(sample) for sample in samples]
    shapes: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place, tensors in enumerate(prepared):
        shapes.setdefault(tuple(a.shape for a in tensors.values()), []).append(place)
    found = np.empty((lane.depth, len(samples)), dtype=np.float32)
    for places in shapes.values():
        for first in range(0, len(places), PROBE_ROWS):
            part = places[first : first + PROBE_ROWS]
            batch = {name: np.stack([prepared[p][name] for p in part]) for name in prepared[0]}
            found[:, part] = engine.probe(batch)[lane.name].scores["entropy"]
    return found


def layer_thresholds(
    scores: NDArray[np.float32], wanted: NDArray[np.int64]
) -> tuple[list[float], NDArray[np.int64]]:
    """Return a threshold for each layer, and where each sample then leaves.

    Of the samples that are still there, those with the lowest scores leave. Samples of one score
    leave together, so ties can move the numbers.

    Args:
        scores: f32[L, N].
        wanted: i64[L], samples that are to leave at each layer; they sum to N.

    Returns:
        Thresholds, which a score must be below to leave; and i64[N], in 1 .. L.
    """
    depth, count = scores.shape
    left = np.full(count, depth, dtype=np.int64)
    there = np.ones(count, dtype=np.bool_)
    thresholds = []
    for layer in range(1, depth):
        leaving = int(wanted[layer - 1])
        ordered = np.sort(scores[layer - 1, there].astype(np.float64))
        if leaving == 0 or not len(ordered):
            threshold = 0.0
        elif leaving >= len(ordered):
            threshold = EVERYBODY
        else:
            threshold = float((ordered[leaving - 1] + ordered[leaving]) / 2)
        fires = there & (scores[layer - 1].astype(np.float64) < threshold)
        left[fires] = layer
        there &= ~fires
        thresholds.append(threshold)
    return [*thresholds, EVERYBODY], left
