"""A burst of samples at saturation: the engine with exits, to full depth, and a plain loop."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from exeunt.bench.data.generation import load_generation_data
from exeunt.bench.generation.loop_process import LoopProcess
from exeunt.bench.generation.plain_loop import LoopSample
from exeunt.bench.generation.report import EXITS, LOOP, NEVER, Pass, generation_report
from exeunt.bench.generation.settings import GenerationBench
from exeunt.bench.report import Report
from exeunt.engine import Engine
from exeunt.engine.bundle.reader import Bundle, default_bundle
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import CompiledPolicy, ExitPolicy, never
from exeunt.engine.reading import PreparedSample

Progress = Callable[[str], None]


def bench_generation(
    bundle: Path | None,
    settings: GenerationBench,
    policy: ExitPolicy | None = None,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure requests and tokens per second of each task.

    All samples of a task are queued at once, their inputs prepared before. The plain loop decodes
    greedily to full depth in static batches, on as many threads, in a process of its own. One pass
    of every side is not counted.

    Args:
        bundle: a directory or an embedded name; the embedded one when None.
        settings: what to measure.
        policy: the exits; the bundle's own when None.
        cache_dir: see `bench_cache`.
        progress: called with what comes next.

    Raises:
        ConfigError: the bundle generates nothing, or the data does not fit it.
    """
    tell = progress or (lambda _: None)
    opened = Bundle.open(bundle or default_bundle())
    config = settings.engine()
    with Engine.open(opened, config) as engine:
        tell("preparing the samples")
        samples = _prepared(engine, settings)
        plain = {
            task: [LoopSample(dict(one.tensors), one.asked.options.allowed) for one in own]
            for task, own in samples.items()
        }
        policies = {EXITS: engine.compile(policy or engine.policy), NEVER: engine.compile(never())}
        tell("starting the plain loop")
        process = LoopProcess(
            opened.root, config.compute_threads, settings.loop_rows, cache_dir, plain
        )
        with closing(process):
            sides: dict[str, Callable[[str], Pass]] = {
                EXITS: lambda task: _serve(engine, samples[task], policies[EXITS]),
                NEVER: lambda task: _serve(engine, samples[task], policies[NEVER]),
                LOOP: lambda task: _loop_pass(process, task),
            }
            passes = _in_turns(sides, list(samples), settings.repeats, tell)
    return generation_report(opened.manifest.name, settings, config.compute_threads, passes)


def _in_turns(
    sides: dict[str, Callable[[str], Pass]], tasks: Sequence[str], repeats: int, tell: Progress
) -> dict[str, dict[str, list[Pass]]]:
    """Return the counted passes by task and side; every other repeat in the opposite order."""
    passes: dict[str, dict[str, list[Pass]]] = {
        task: {name: [] for name in sides} for task in tasks
    }
    for repeat in range(repeats + 1):
        for task in tasks:
            for name in list(sides) if repeat % 2 else reversed(list(sides)):
                tell(f"{task}: {name}, {f'repeat {repeat} of {repeats}' if repeat else 'warm-up'}")
                done = sides[name](task)
                if repeat:
                    passes[task][name].append(done)
    return passes


def _prepared(engine: Engine, settings: GenerationBench) -> dict[str, list[PreparedSample]]:
    data = load_generation_data(settings.data)
    tasks = {task.name for task in engine.manifest.tasks}
    if unknown := {one.task for one in data} - tasks:
        raise ConfigError(f"the data has samples of {sorted(unknown)}; the bundle {sorted(tasks)}")
    chosen: dict[str, list[PreparedSample]] = {}
    for one in data:
        own = chosen.setdefault(one.task, [])
        if not settings.samples or len(own) < settings.samples:
            own.append(engine.read({"image": one.image, "text": one.text, "task": one.task}))
    return chosen


def _serve(engine: Engine, samples: Sequence[PreparedSample], policy: CompiledPolicy) -> Pass:
    started_s = time.perf_counter()
    with engine.reserve(len(samples) * engine.rows_per_sample) as ticket:
        pending = [engine.send(ticket, sample, policy) for sample in samples]
        answers = [future.result() for future in pending]
    seconds = time.perf_counter() - started_s
    return Pass(
        seconds,
        [answer.tokens[: len(answer.token_exit_layers)] for answer in answers],
        sum(sum(answer.token_exit_layers) for answer in answers),
    )


def _loop_pass(process: LoopProcess, task: str) -> Pass:
    run = process.run(task)
    return Pass(run.seconds, run.tokens, 0)
