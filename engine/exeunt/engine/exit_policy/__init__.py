"""Exit policies: the criteria and thresholds of a deployment, for each task and lane."""

from exeunt.engine.exit_policy.compiled import CompiledPolicy, LanePolicy, compile_policy
from exeunt.engine.exit_policy.format import ExitPolicy, LaneRules, RuleSpec
from exeunt.engine.exit_policy.load import load_exit_policy, never

__all__ = [
    "CompiledPolicy",
    "ExitPolicy",
    "LanePolicy",
    "LaneRules",
    "RuleSpec",
    "compile_policy",
    "load_exit_policy",
    "never",
]
