"""Running labelled samples through an engine."""

import time
from collections.abc import Callable, Sequence

from exeunt.bench.data import LabelledSample
from exeunt.bench.evaluation.report import EvalReport, Outcome, summarise
from exeunt.engine import Answer, Engine
from exeunt.engine.backends.base import Array
from exeunt.engine.exit_policy import CompiledPolicy, ExitPolicy, never

Progress = Callable[[int], None]
CHUNK = 512


def evaluate(
    engine: Engine,
    samples: Sequence[LabelledSample],
    policy: ExitPolicy,
    data: str,
    *,
    compare: bool = True,
    progress: Progress | None = None,
) -> EvalReport:
    """Answer every sample under an exit policy and compare with the labels.

    Args:
        engine: opened on the bundle to judge.
        samples: at least one.
        policy: criteria and thresholds.
        data: the data's name, for the report.
        compare: run each chunk of samples to full depth as well, in turns with the policy's run and
            on the same prepared inputs, so that the time saved is measured under one load.
        progress: called with the number of samples done since the last call.
    """
    chosen, full = engine.compile(policy), engine.compile(never())
    compare = compare and bool(policy.tasks)
    seconds = never_seconds = 0.0
    outcomes: list[Outcome] = []
    for number, first in enumerate(range(0, len(samples), CHUNK)):
        chunk = samples[first : first + CHUNK]
        inputs = [engine.prepare({"image": s.image, "text": s.text}) for s in chunk]
        runs = [(chosen, True), (full, False)] if compare else [(chosen, True)]
        for run_policy, counts in runs if number % 2 == 0 else reversed(runs):
            started_s = time.perf_counter()
            answers = answer_all(engine, inputs, run_policy)
            taken_s = time.perf_counter() - started_s
            if counts:
                seconds += taken_s
                outcomes += [
                    Outcome(s.kind, a.label == s.label, a.exit_layer, a.depth)
                    for s, a in zip(chunk, answers, strict=True)
                ]
            else:
                never_seconds += taken_s
        if progress:
            progress(len(chunk))
    total, kinds = summarise(outcomes)
    return EvalReport(
        bundle=engine.manifest.name,
        data=data,
        policy_version=policy.version,
        samples=total.samples,
        accuracy=total.accuracy,
        rho=total.rho,
        exits=total.exits,
        kinds=kinds,
        seconds=seconds,
        never_seconds=never_seconds if compare else None,
        time_saved=1.0 - seconds / never_seconds if compare else None,
    )


def answer_all(
    engine: Engine, inputs: Sequence[dict[str, Array]], policy: CompiledPolicy
) -> list[Answer]:
    """Return the answers to prepared samples, with as many in flight as the engine admits."""
    answers: list[Answer] = []
    window = max(1, engine.config.max_queued_rows // engine.rows_per_sample)
    for first in range(0, len(inputs), window):
        part = inputs[first : first + window]
        with engine.reserve(len(part) * engine.rows_per_sample) as ticket:
            pending = [
                engine.submit_tensors(ticket, tensors, exit_policy=policy) for tensors in part
            ]
            answers += [future.result() for future in pending]
    return answers
