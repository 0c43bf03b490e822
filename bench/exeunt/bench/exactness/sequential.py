"""The sequential algorithm: where a sample leaves, and with what, by its own logits alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.exactness.settings import Thresholds
from exeunt.bench.workloads.calibrated import layer_thresholds
from exeunt.bench.workloads.exits import draw_exits
from exeunt.engine.criteria import Entropy, Evidence
from exeunt.engine.exit_policy import ExitPolicy, LaneRules, RuleSpec
from exeunt.engine.exit_policy.compiled import LanePolicy


@dataclass(frozen=True)
class Sequential:
    """What N samples are answered, each alone.

    logits: f32[N, L, C], after every layer. exit_layers: i64[N], in 1 .. L. nearest: f64[N], the
    least distance of a score from its threshold on the way to the exit.
    """

    logits: NDArray[np.float32]
    exit_layers: NDArray[np.int64]
    nearest: NDArray[np.float64]

    @property
    def answers(self) -> NDArray[np.float32]:
        """The logits of the answers, f32[N, C]."""
        return self.at(self.exit_layers)

    def at(self, layers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the logits f32[N, C] that each sample has after a layer of its own, i64[N]."""
        return self.logits[np.arange(len(self.logits)), layers - 1]


def judge(logits: NDArray[np.float32], policy: LanePolicy) -> Sequential:
    """Let each sample leave at the first layer where the policy's rules fire.

    Args:
        logits: f32[N, L, C].
        policy: of rules that read logits alone, and no streak.
    """
    count, depth = logits.shape[:2]
    left = np.full(count, depth, dtype=np.int64)
    nearest = np.full(count, np.inf)
    for place in range(count):
        for layer in range(1, depth):  # the last layer answers, whatever its score is
            row = logits[place : place + 1, layer - 1]
            verdict = policy.judge(Evidence(layer, row), 1)
            distances = np.abs(verdict.scores.astype(np.float64) - policy.thresholds[layer - 1])
            nearest[place] = min(nearest[place], float(distances.min()))
            if verdict.leave[0]:
                left[place] = layer
                break
    return Sequential(logits, left, nearest)


def entropy_policy(
    lane: str, logits: NDArray[np.float32], exits: str, thresholds: Thresholds
) -> ExitPolicy:
    """Return the entropy policy under which the samples leave as a distribution says.

    Args:
        lane: the one that answers.
        logits: f32[N, L, C], of the samples.
        exits: see `exeunt.bench.workloads.exits`.
        thresholds: see `ExactnessSettings`.

    Raises:
        ConfigError: there is no such distribution.
    """
    count, depth = logits.shape[:2]
    scores = np.stack(
        [Entropy().score(Evidence(layer, logits[:, layer - 1])) for layer in range(1, depth + 1)]
    )
    wanted = np.bincount(draw_exits(exits, depth, count), minlength=depth + 1)[1:]
    limits, left = layer_thresholds(scores, wanted)
    if thresholds == "on-score":
        limits = [
            _lowest_staying(scores[layer - 1][left >= layer], limit)
            for layer, limit in enumerate(limits, 1)
        ]
    rule = RuleSpec(criterion="entropy", threshold=tuple(limits))
    return ExitPolicy(version=1, tasks={"default": {lane: LaneRules(any=(rule,))}})


def _lowest_staying(scores: NDArray[np.float32], limit: float) -> float:
    """Return the lowest of the scores that do not fire at a limit: it does not fire at itself."""
    staying = scores[scores.astype(np.float64) >= limit]
    return float(staying.min()) if len(staying) else limit
