"""One exactness run: the sequential answers, then all samples under random schedules."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.exactness.compare import Promise, deviation
from exeunt.bench.exactness.report import Comparison, Exactness, Pass, summarise
from exeunt.bench.exactness.schedule import allowed_deterministic, draw_schedule, limited, serve
from exeunt.bench.exactness.sequential import Sequential, entropy_policy, judge
from exeunt.bench.exactness.settings import ExactnessSettings
from exeunt.bench.exactness.walk import OneByOne, padded_to
from exeunt.bench.workloads import draw_samples, uniter_base_bundle
from exeunt.bench.workloads.lane import single_lane
from exeunt.engine import Engine
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.config import Layout
from exeunt.engine.exit_policy import ExitPolicy, compile_policy
from exeunt.engine.inputs.tensors import TensorChecker

TELL_EVERY = 16  # samples
Progress = Callable[[str], None]
Samples = Sequence[Mapping[str, Array]]
Logits = NDArray[np.float32]  # [N, L, C]


def bench_exactness(
    settings: ExactnessSettings,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Exactness:
    """Compare the engine's answers under random schedules with those of one sample at a time.

    Args:
        settings: what to compare.
        cache_dir: where the workload's bundle is kept; see `bench_cache`.
        progress: called with what comes next.

    Raises:
        ConfigError: a setting cannot be had here.
        SegmentError: a segment failed.
    """
    tell = progress or _silent
    bundle = _open_bundle(settings, cache_dir, tell)
    samples = draw_samples(
        settings.workload, settings.samples, lengths=settings.lengths, seed=settings.seed
    )
    checker = TensorChecker(bundle.manifest)
    own = [checker.sample(sample) for sample in samples]  # each in its own bucket
    backend = open_backend(
        settings.backend, settings.compute_threads, settings.precision, settings.streams
    )
    try:
        policy, alone, across = _alone(bundle, backend, settings, own, tell)
    finally:
        backend.close()
    deterministic = allowed_deterministic(bundle, settings)
    passes = _passes(bundle, settings, samples, policy, deterministic, tell)
    promised = _promises(settings.layout, deterministic)
    comparisons = [
        Comparison(
            f"{layout} alone",
            promised[layout],
            tuple(
                deviation(reference, one.served.exit_layers, one.served.logits, settings.tolerance)
                for one in passes
            ),
        )
        for layout, reference in alone.items()
    ]
    return summarise(settings, comparisons + across, passes, deterministic)


def _open_bundle(settings: ExactnessSettings, cache_dir: Path | None, tell: Progress) -> Bundle:
    tell("preparing the bundle")
    # A process has one pool of ONNX Runtime's, which must be the one that is to serve.
    streams = settings.streams if settings.backend == "onnxruntime" else 1
    writer = open_backend("onnxruntime", settings.compute_threads, streams=streams)
    try:
        return Bundle.open(
            uniter_base_bundle(settings.workload, cache_dir=cache_dir, backend=writer)
        )
    finally:
        writer.close()


def _alone(
    bundle: Bundle, backend: Backend, settings: ExactnessSettings, own: Samples, tell: Progress
) -> tuple[ExitPolicy, dict[Layout, Sequential], list[Comparison]]:
    """Return the policy, the sequential answers by layout, and how longer padding moves them."""
    lane = single_lane(bundle.manifest).name
    padded = OneByOne(bundle, backend, "padded")
    logits = _walk(padded, own, "batch 1, padded", tell)
    policy = entropy_policy(lane, logits, settings.exits, settings.thresholds)
    rules = compile_policy(policy, bundle.manifest).lanes[bundle.manifest.tasks[0].name, lane]
    alone: dict[Layout, Sequential] = {"padded": judge(logits, rules)}
    across = []
    sizes = _longest(bundle.manifest)
    longest = [padded_to(bundle.manifest, sample, sizes) for sample in own]
    if any(_shapes(one) != _shapes(other) for one, other in zip(own, longest, strict=True)):
        moved = judge(_walk(padded, longest, "batch 1, longest bucket", tell), rules)
        off = deviation(alone["padded"], moved.exit_layers, moved.answers, settings.tolerance)
        across.append(Comparison("longest bucket", "tolerance", (off,)))
    if settings.layout == "packed":
        walked = _walk(OneByOne(bundle, backend, "packed"), own, "batch 1, packed", tell)
        alone["packed"] = judge(walked, rules)
    return policy, alone, across


def _walk(walker: OneByOne, samples: Samples, what: str, tell: Progress) -> Logits:
    logits = []
    for place, sample in enumerate(samples):
        if place % TELL_EVERY == 0:
            tell(f"{what}: {place} of {len(samples)} samples")
        logits.append(walker(sample))
    return np.stack(logits)


def _longest(manifest: Manifest) -> dict[str, int]:
    return {name: bucket.most for name, bucket in manifest.buckets.items()}


def _shapes(sample: Mapping[str, Array]) -> list[tuple[int, ...]]:
    return [array.shape for array in sample.values()]


def _promises(layout: Layout, deterministic: bool) -> dict[Layout, Promise]:
    """Return what is promised against the sequential answers of each layout."""
    if layout == "padded":
        return {"padded": "bits"}
    return {"padded": "tolerance", "packed": "bits" if deterministic else "none"}


def _passes(
    bundle: Bundle,
    settings: ExactnessSettings,
    samples: Samples,
    policy: ExitPolicy,
    deterministic: bool,
    tell: Progress,
) -> list[Pass]:
    random = np.random.default_rng(settings.seed)
    passes = []
    for place in range(settings.schedules):
        schedule = draw_schedule(len(samples), random)
        tell(
            f"schedule {place + 1} of {settings.schedules}: up to"
            f" {schedule.limits['max_batch_rows']} rows a batch"
        )
        config = limited(settings, schedule.limits, deterministic=deterministic)
        with Engine.open(bundle, config) as engine:
            passes.append(Pass(schedule, serve(engine, schedule, samples, policy)))
    return passes


def _silent(step: str) -> None:
    """Tell nobody."""
