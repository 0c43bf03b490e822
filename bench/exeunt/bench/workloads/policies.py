"""Drawn exits as exit policies: they override the verdict, and nothing else.

Every layer's head and the entropy criterion run as in service; only the thresholds are such that
the answer is known beforehand. Entropy is never below 0, so the threshold 0 never fires, and every
finite entropy is below a huge one.
"""

from exeunt.bench.workloads.lane import single_lane
from exeunt.engine import Engine
from exeunt.engine.exit_policy import CompiledPolicy, ExitPolicy, LaneRules, RuleSpec

NEVER, ALWAYS = 0.0, 1e9


def drawn_policies(engine: Engine) -> dict[int, CompiledPolicy]:
    """Return, for each layer, the policy under which a sample leaves there and nowhere before.

    Args:
        engine: opened on a bundle of one lane whose exits offer entropy.

    Raises:
        ConfigError: the bundle has several lanes, a loop or groups of rows.
        ExitPolicyError: its lane cannot be judged by entropy.
    """
    lane = single_lane(engine.manifest)
    return {
        layer: engine.compile(_leave_at(lane.name, layer, lane.depth))
        for layer in range(1, lane.depth + 1)
    }


def _leave_at(lane: str, layer: int, depth: int) -> ExitPolicy:
    thresholds = (NEVER,) * (layer - 1) + (ALWAYS,) * (depth - layer + 1)
    rule = RuleSpec(criterion="entropy", threshold=thresholds)
    return ExitPolicy(version=layer, tasks={"default": {lane: LaneRules(any=(rule,))}})
