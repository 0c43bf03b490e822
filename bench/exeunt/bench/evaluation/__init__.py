"""Evaluation: accuracy, text quality, rho, exits by layer and the time saved."""

from exeunt.bench.evaluation.evaluate import evaluate
from exeunt.bench.evaluation.generation_report import GenerationReport, TaskReport
from exeunt.bench.evaluation.judge import judge
from exeunt.bench.evaluation.reference import open_reference
from exeunt.bench.evaluation.report import EvalReport, KindReport

__all__ = [
    "EvalReport",
    "GenerationReport",
    "KindReport",
    "TaskReport",
    "evaluate",
    "judge",
    "open_reference",
]
