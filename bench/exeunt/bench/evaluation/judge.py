"""Judging a bundle by what it does: one that generates task by task, others by their labels."""

from collections.abc import Callable

from exeunt.bench.data import load_data
from exeunt.bench.data.generation import load_generation_data
from exeunt.bench.evaluation.evaluate import evaluate
from exeunt.bench.evaluation.generation import evaluate_generation
from exeunt.bench.evaluation.generation_report import GenerationReport
from exeunt.bench.evaluation.report import EvalReport
from exeunt.engine import Engine
from exeunt.engine.exit_policy import ExitPolicy

Judged = EvalReport | GenerationReport
Counting = Callable[[int], Callable[[int], None]]


def judge(
    engine: Engine,
    policy: ExitPolicy,
    data: str | None,
    reference: Engine | None,
    counting: Counting,
) -> Judged:
    """Evaluate a bundle on data that fits it.

    Args:
        engine: opened on the bundle; without a state cache where it generates.
        policy: criteria and thresholds.
        data: a name or a path; the embedded bundle's test data when None.
        reference: see `evaluate`.
        counting: is told how many samples there are; what it returns, how many are done.

    Raises:
        ConfigError: there is no such data, or it does not fit the bundle.
    """
    if any(task.kind == "generation" for task in engine.manifest.tasks):
        name = data or "scenes"
        texts = load_generation_data(name)
        return evaluate_generation(engine, texts, policy, name, progress=counting(len(texts)))
    name = data or "demo"
    samples = load_data(name)
    return evaluate(
        engine, samples, policy, name, reference=reference, progress=counting(len(samples))
    )
