"""Finding the best settings of full depth in static batches."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from exeunt.bench.peers.static import StaticBatches, alike
from exeunt.bench.workloads.lane import BATCH
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.backends.base import Backend, LoadedSegment
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ConfigError

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
FINALISTS = 2  # batch sizes that are tried again with fixed shapes

Key = tuple[str, int]  # the optimisers' setting and the batch size


@dataclass(frozen=True)
class StaticSearch:
    """What was tried. seconds: of one sample, median, by optimisers' setting and batch size."""

    best: StaticBatches
    seconds: dict[Key, float]


def best_static(
    bundle: Bundle,
    backend: Backend,
    samples: Sequence[Sample],
    *,
    threads: int,
    precision: Literal["fp32", "bf16"] = "fp32",
    sizes: Sequence[int] = BATCH_SIZES,
    repeats: int = 3,
    cache_dir: Path | None = None,
    progress: Callable[[], None] | None = None,
) -> StaticSearch:
    """Find the fastest way to run full depth in static batches on one backend.

    First every batch size with every setting of the graph optimisers; then, where the samples have
    one shape, the best batch sizes again, compiled for that very shape, in turns with the best so
    far.

    Args:
        bundle: of one lane.
        backend: opened; loads the graph as it loads the segments.
        samples: of one pass; batch sizes beyond their number are not tried.
        threads: the backend's compute threads.
        precision: the backend's.
        sizes: batch sizes to try.
        repeats: counted passes of each setting.
        cache_dir: where the whole graph is kept; see `bench_cache`.
        progress: called after every pass.

    Raises:
        ConfigError: no size can be tried, the bundle is not of one lane, or the cache cannot be
            written.
    """
    from exeunt.bench.peers.fixed_shapes import fixed_graphs
    from exeunt.bench.workloads.whole import whole_graph

    graphs = static_graphs(bundle, backend, threads, cache_dir)
    manifest, name = bundle.manifest, backend.name
    found = search_static(
        graphs,
        manifest,
        samples,
        backend=name,
        sizes=sizes,
        repeats=repeats,
        progress=progress,
    )
    if not alike(samples):
        return found
    leading = min(found.seconds, key=lambda key: found.seconds[key])
    order = sorted({rows for _, rows in found.seconds}, key=_by_rows(found.seconds))
    file = whole_graph(bundle, "last", cache_dir=cache_dir)
    fixed: dict[Key, StaticBatches] = {}
    for rows in order[:FINALISTS]:
        shape = _sizes(manifest, samples[0]) | {BATCH: rows}
        compiled = fixed_graphs(
            manifest, file, shape, backend=name, threads=threads, precision=precision
        )
        for optimizers, graph in compiled.items():
            fixed[optimizers, rows] = StaticBatches(
                graphs[leading[0]],
                manifest,
                rows,
                backend=name,
                optimizers=optimizers,
                fixed=graph,
            )
    if not fixed:
        return found
    finals = _take_turns({leading: found.best, **fixed}, samples, repeats, progress)
    best = min(finals, key=lambda key: finals[key])
    return StaticSearch({leading: found.best, **fixed}[best], found.seconds | finals)


def static_graphs(
    bundle: Bundle, backend: Backend, threads: int, cache_dir: Path | None = None
) -> dict[str, LoadedSegment]:
    """Return the whole model for batches of any shape, by the graph optimisers' setting.

    Under ONNX Runtime the engine's own setting and the library's are there; the other backends have
    one.

    Args:
        bundle: of one lane.
        backend: opened; it loads the graph as it loads the segments.
        threads: the backend's compute threads.
        cache_dir: where the graph is kept; see `bench_cache`.

    Raises:
        ConfigError: the bundle is not of one lane, or the cache cannot be written.
    """
    from exeunt.bench.workloads.whole import load_whole, whole_graph

    file = whole_graph(bundle, "last", cache_dir=cache_dir)
    own = load_whole(backend, bundle, "last", file)
    if backend.name != "onnxruntime":
        return {"default": own}
    from exeunt.bench.peers.fixed_shapes import SKIP_LAYER_NORM
    from exeunt.bench.peers.onnx_session import OnnxGraph

    return {
        f"without {SKIP_LAYER_NORM}": own,
        f"with {SKIP_LAYER_NORM}": OnnxGraph(file, threads, []),
    }


def search_static(
    graphs: Mapping[str, LoadedSegment],
    manifest: Manifest,
    samples: Sequence[Sample],
    *,
    backend: str,
    sizes: Sequence[int] = BATCH_SIZES,
    repeats: int = 3,
    progress: Callable[[], None] | None = None,
) -> StaticSearch:
    """Find the batch size and the optimisers' setting with the highest throughput.

    Args:
        graphs: by optimisers' setting; see `static_graphs`.
        manifest: the bundle's.
        samples: of one pass; sizes beyond their number are not tried.
        backend: the backend's name, for the report.
        sizes: batch sizes to try.
        repeats: counted passes of each setting.
        progress: called after every pass.

    Raises:
        ConfigError: no size can be tried.
    """
    tried = {
        (name, size): StaticBatches(graph, manifest, size, backend=backend, optimizers=name)
        for name, graph in graphs.items()
        for size in sizes
        if size <= len(samples)
    }
    if not tried:
        raise ConfigError(f"{len(samples)} samples fill no batch of {tuple(sizes)}: give more")
    seconds = _take_turns(tried, samples, repeats, progress)
    best = min(seconds, key=lambda key: seconds[key])
    return StaticSearch(tried[best], seconds)


def _take_turns(
    tried: Mapping[Key, StaticBatches],
    samples: Sequence[Sample],
    repeats: int,
    progress: Callable[[], None] | None,
) -> dict[Key, float]:
    """Return the median seconds of one sample by setting.

    Every setting takes its turn in each repeat, so that a machine whose speed drifts slows all of
    them alike; a first round warms up.
    """
    passes: dict[Key, list[float]] = {key: [] for key in tried}
    for peer in tried.values():
        peer.prepare(samples, np.empty(0, dtype=np.int64))
    for repeat in range(repeats + 1):
        for key, peer in tried.items():
            seconds = peer.run().seconds
            if repeat:
                passes[key].append(seconds / len(samples))
            if progress:
                progress()
    for peer in tried.values():
        peer.close()
    return {key: statistics.median(found) for key, found in passes.items()}


def _by_rows(seconds: Mapping[Key, float]) -> Callable[[int], float]:
    return lambda rows: min(taken for (_, size), taken in seconds.items() if size == rows)


def _sizes(manifest: Manifest, sample: Sample) -> dict[str, int]:
    """Return what the symbolic sizes are in a sample."""
    return {
        symbol: size
        for name, spec in manifest.tensors.items()
        for symbol, size in zip(spec.shape, sample[name].shape, strict=True)
        if isinstance(symbol, str)
    }
