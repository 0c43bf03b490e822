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
    reference: Engine | None = None,
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
        reference: opened on the same bundle with the backend and the precision whose full depth the
            answers are compared with; see `open_reference`.
        progress: called with the number of samples done since the last call.
    """
    runs = {"policy": engine.compile(policy)}
    if compare and policy.tasks:
        runs["never"] = engine.compile(never())
    full = reference.compile(never()) if reference else None
    seconds, agreeing = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, 0)
    outcomes: list[Outcome] = []
    for number, first in enumerate(range(0, len(samples), CHUNK)):
        chunk = samples[first : first + CHUNK]
        inputs = [engine.prepare({"image": s.image, "text": s.text}) for s in chunk]
        answers = {}
        for name in runs if number % 2 == 0 else reversed(runs):
            answers[name], taken_s = _timed(engine, inputs, runs[name])
            seconds[name] += taken_s
        outcomes += [
            Outcome(s.kind, a.label == s.label, a.exit_layer, a.depth)
            for s, a in zip(chunk, answers["policy"], strict=True)
        ]
        if reference and full:  # after what is timed: its threads may still spin
            expected = answer_all(reference, inputs, full)
            for name, found in answers.items():
                agreeing[name] += equal_answers(found, expected)
        if progress:
            progress(len(chunk))
    total, kinds = summarise(outcomes)
    agreement = {name: count / total.samples for name, count in agreeing.items() if reference}
    return EvalReport(
        bundle=engine.manifest.name,
        data=data,
        backend=engine.config.backend,
        precision=engine.config.precision,
        policy_version=policy.version,
        samples=total.samples,
        accuracy=total.accuracy,
        rho=total.rho,
        exits=total.exits,
        kinds=kinds,
        agreement=agreement.get("policy"),
        never_agreement=agreement.get("never"),
        seconds=seconds["policy"],
        never_seconds=seconds.get("never"),
    )


def equal_answers(found: Sequence[Answer], expected: Sequence[Answer]) -> int:
    """Count the samples whose most probable label is the same in both."""
    return sum(one.index == other.index for one, other in zip(found, expected, strict=True))


def _timed(
    engine: Engine, inputs: Sequence[dict[str, Array]], policy: CompiledPolicy
) -> tuple[list[Answer], float]:
    started_s = time.perf_counter()
    answers = answer_all(engine, inputs, policy)
    return answers, time.perf_counter() - started_s


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
