"""Evaluation: accuracy, rho, exits by layer and the time saved."""

from exeunt.bench.evaluation.evaluate import evaluate
from exeunt.bench.evaluation.reference import open_reference
from exeunt.bench.evaluation.report import EvalReport, KindReport

__all__ = ["EvalReport", "KindReport", "evaluate", "open_reference"]
