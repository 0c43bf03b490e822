"""Running the samples of a bundle that generates through an engine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from exeunt.bench.data.generation import GenerationSample
from exeunt.bench.evaluation.captions import bleu4_and_cider
from exeunt.bench.evaluation.generation_report import GenerationReport, LaneExits, TaskReport
from exeunt.engine import Answer, Engine
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import CompiledPolicy, ExitPolicy, never
from exeunt.engine.reading import PreparedSample

CHUNK = 256
Progress = Callable[[int], None]


@dataclass
class _Run:
    """One way through all samples. seconds, tokens: of each task."""

    policy: CompiledPolicy
    answers: list[Answer] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)


def evaluate_generation(
    engine: Engine,
    samples: Sequence[GenerationSample],
    policy: ExitPolicy,
    data: str,
    *,
    compare: bool = True,
    progress: Progress | None = None,
) -> GenerationReport:
    """Answer every sample under an exit policy; score what was answered, and what it took.

    Args:
        engine: opened on the bundle to judge, without a state cache: two samples of one image would
            share a lane's time.
        samples: of the bundle's tasks, at least one of each that is to be judged.
        policy: criteria and thresholds.
        data: the data's name, for the report.
        compare: run each chunk of samples to full depth as well, in turns with the policy's run and
            on the same prepared inputs.
        progress: called with the number of samples done since the last call.

    Raises:
        ConfigError: a sample is of no task of the bundle, or its label is none of the task's.
    """
    _check(engine, samples)
    runs = {"policy": _Run(engine.compile(policy))}
    if compare and policy.tasks:
        runs["never"] = _Run(engine.compile(never()))
    by_task = sorted(samples, key=lambda one: one.task)
    number = 0
    for task in dict.fromkeys(one.task for one in by_task):
        own = [one for one in by_task if one.task == task]
        for first in range(0, len(own), CHUNK):
            chunk = [engine.read(_fields(one)) for one in own[first : first + CHUNK]]
            for name in runs if number % 2 == 0 else reversed(runs):
                _serve(engine, chunk, task, runs[name])
            number += 1
            if progress:
                progress(len(chunk))
    return GenerationReport(
        bundle=engine.manifest.name,
        data=data,
        backend=engine.config.backend,
        precision=engine.config.precision,
        policy_version=policy.version,
        tasks={
            task: _task_report(engine, task, by_task, runs)
            for task in dict.fromkeys(one.task for one in by_task)
        },
    )


def _fields(sample: GenerationSample) -> dict[str, object]:
    return {"image": sample.image, "text": sample.text, "task": sample.task}


def _check(engine: Engine, samples: Sequence[GenerationSample]) -> None:
    tasks = {task.name: task for task in engine.manifest.tasks}
    for sample in samples:
        if sample.task not in tasks:
            raise ConfigError(
                f"the data has samples of task {sample.task!r}; the bundle has {sorted(tasks)}"
            )
        labels = tasks[sample.task].labels
        if sample.label is not None and sample.label not in labels:
            raise ConfigError(
                f"the data has the label {sample.label!r}; task {sample.task!r} has {list(labels)}"
            )


def _serve(engine: Engine, chunk: Sequence[PreparedSample], task: str, run: _Run) -> None:
    """Answer a chunk as one burst; what is timed is the engine alone."""
    started_s = time.perf_counter()
    with engine.reserve(len(chunk) * engine.rows_per_sample) as ticket:
        pending = [engine.send(ticket, sample, run.policy) for sample in chunk]
        answers = [future.result() for future in pending]
    run.seconds[task] = run.seconds.get(task, 0.0) + time.perf_counter() - started_s
    made = sum(len(answer.token_exit_layers) for answer in answers)
    run.tokens[task] = run.tokens.get(task, 0) + made
    run.answers += answers


def _task_report(
    engine: Engine, task: str, samples: Sequence[GenerationSample], runs: dict[str, _Run]
) -> TaskReport:
    pairs = [
        (sample, answer)
        for sample, answer in zip(samples, runs["policy"].answers, strict=True)
        if sample.task == task
    ]
    labelled = [(one, answer) for one, answer in pairs if one.label is not None]
    free = [(one, answer) for one, answer in pairs if one.references]
    bleu4, cider = None, None
    if free:
        texts = [answer.text or "" for _, answer in free]
        bleu4, cider = bleu4_and_cider(texts, [one.references for one, _ in free])
    answering = next(spec.lane for spec in engine.manifest.tasks if spec.name == task)
    own, full = runs["policy"], runs.get("never")
    return TaskReport(
        samples=len(pairs),
        accuracy=sum(a.label == s.label for s, a in labelled) / len(labelled) if labelled else None,
        bleu4=bleu4,
        cider=cider,
        lanes=_lanes([answer for _, answer in pairs], answering),
        decoder=answering,
        tokens=own.tokens[task],
        seconds=own.seconds[task],
        never_tokens=full.tokens[task] if full else None,
        never_seconds=full.seconds[task] if full else None,
    )


def _lanes(answers: Sequence[Answer], answering: str) -> dict[str, LaneExits]:
    """Return the exits by lane: one a sample in encoders, one a token in the answering lane."""
    layers: dict[str, list[int]] = {}
    depths: dict[str, int] = {}
    for answer in answers:
        for name, lane in answer.lanes.items():
            depths[name] = lane.depth
            loops = name == answering and bool(answer.token_exit_layers)
            found = answer.token_exit_layers if loops else (lane.exit_layer,)
            layers.setdefault(name, []).extend(found)
    return {name: LaneExits.of(found, depths[name]) for name, found in layers.items()}
