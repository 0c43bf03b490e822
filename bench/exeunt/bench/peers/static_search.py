"""Finding the best settings of full depth in static batches."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from exeunt.bench.peers.base import Peer
from exeunt.bench.peers.cores import Cores, ways_in_process
from exeunt.bench.peers.fixed_shapes import fixed_graphs
from exeunt.bench.peers.static import StaticBatches, alike
from exeunt.bench.peers.static_callers import StaticCallers
from exeunt.bench.peers.static_graphs import static_graphs
from exeunt.bench.workloads.lane import BATCH
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.backends.base import Backend, LoadedSegment
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ConfigError

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
FINALISTS = 2  # batch sizes, with their callers, that are tried again with fixed shapes

Static = StaticBatches | StaticCallers


class Tried(NamedTuple):
    """A setting of full depth. callers: that run batches at the same time."""

    optimizers: str
    batch_rows: int
    callers: int = 1


@dataclass(frozen=True)
class StaticSearch:
    """What was tried. seconds: of one sample, median, by setting."""

    best: Static
    seconds: dict[Tried, float]


def best_static(
    bundle: Bundle,
    backend: Backend,
    samples: Sequence[Sample],
    *,
    threads: int,
    streams: int = 1,
    precision: Literal["fp32", "bf16"] = "fp32",
    sizes: Sequence[int] = BATCH_SIZES,
    repeats: int = 3,
    cache_dir: Path | None = None,
    progress: Callable[[], None] | None = None,
) -> StaticSearch:
    """Find the fastest way to run full depth in static batches on one backend.

    First every batch size with every setting of the graph optimisers, in every way to use the cores
    that can be had in this process (see `ways_in_process`); then, where the samples have one shape,
    the best of these again, compiled for that very shape, in turns with the best so far.

    Args:
        bundle: of one lane.
        backend: the engine's.
        samples: of one pass; batch sizes beyond a caller's share of them are not tried.
        threads: the engine's compute threads, of all streams together.
        streams: batches that the engine runs at the same time; they divide `threads`.
        precision: the backend's.
        sizes: batch sizes to try.
        repeats: counted passes of each setting.
        cache_dir: where the whole graph is kept; see `bench_cache`.
        progress: called after every pass.

    Raises:
        ConfigError: no size can be tried, the bundle is not of one lane, or the cache cannot be
            written.
    """
    ways = {
        cores: static_graphs(bundle, backend, cores, precision, cache_dir)
        for cores in ways_in_process(backend.name, threads, streams)
    }
    found = search_static(
        ways,
        bundle.manifest,
        samples,
        backend=backend.name,
        sizes=sizes,
        repeats=repeats,
        progress=progress,
    )
    if not alike(samples):
        return found
    fixed = _fixed(found, bundle, backend.name, ways, samples[0], precision, cache_dir)
    if not fixed:
        return found
    leading = min(found.seconds, key=lambda tried: found.seconds[tried])
    finalists = {leading: found.best, **fixed}
    finals = take_turns(finalists, samples, repeats, progress)
    _close(finalists)
    best = min(finals, key=lambda tried: finals[tried])
    return StaticSearch(finalists[best], found.seconds | finals)


def _fixed(
    found: StaticSearch,
    bundle: Bundle,
    backend: str,
    ways: Mapping[Cores, Mapping[str, LoadedSegment]],
    sample: Sample,
    precision: Literal["fp32", "bf16"],
    cache_dir: Path | None,
) -> dict[Tried, Static]:
    """Return the best settings found, compiled for the one shape of their batches."""
    from exeunt.bench.workloads.whole import whole_graph  # needs onnx

    file = whole_graph(bundle, "last", cache_dir=cache_dir)
    order = sorted(found.seconds, key=lambda tried: found.seconds[tried])
    fixed: dict[Tried, Static] = {}
    for rows, callers in list(dict.fromkeys(tried[1:] for tried in order))[:FINALISTS]:
        cores, graphs = next((c, graphs) for c, graphs in ways.items() if c.callers == callers)
        general = next(tried.optimizers for tried in order if tried[1:] == (rows, callers))
        sizes = _sizes(bundle.manifest, sample) | {BATCH: rows}
        compiled = fixed_graphs(
            bundle.manifest, file, sizes, backend=backend, cores=cores, precision=precision
        )
        for optimizers, whole in compiled.items():
            tried = Tried(optimizers, rows, callers)
            fixed[tried] = _static(graphs[general], bundle.manifest, tried, backend, whole)
    return fixed


def search_static(
    ways: Mapping[Cores, Mapping[str, LoadedSegment]],
    manifest: Manifest,
    samples: Sequence[Sample],
    *,
    backend: str,
    sizes: Sequence[int] = BATCH_SIZES,
    repeats: int = 3,
    progress: Callable[[], None] | None = None,
) -> StaticSearch:
    """Find the batch size, the optimisers' setting and the callers with the highest throughput.

    Args:
        ways: graphs by optimisers' setting, for each way to use the cores; see `static_graphs`.
        manifest: the bundle's.
        samples: of one pass; sizes beyond a caller's share of them are not tried.
        backend: the backend's name, for the report.
        sizes: batch sizes to try.
        repeats: counted passes of each setting.
        progress: called after every pass.

    Raises:
        ConfigError: no size can be tried.
    """
    peers = {
        Tried(name, size, cores.callers): _static(
            graph, manifest, Tried(name, size, cores.callers), backend
        )
        for cores, graphs in ways.items()
        for name, graph in graphs.items()
        for size in sizes
        if size * cores.callers <= len(samples)
    }
    if not peers:
        raise ConfigError(f"{len(samples)} samples fill no batch of {tuple(sizes)}: give more")
    seconds = take_turns(peers, samples, repeats, progress)
    _close(peers)
    best = min(seconds, key=lambda tried: seconds[tried])
    return StaticSearch(peers[best], seconds)


def _static(
    graph: LoadedSegment,
    manifest: Manifest,
    tried: Tried,
    backend: str,
    fixed: LoadedSegment | None = None,
) -> Static:
    """Return the peer of a setting; one caller runs in the bench's own thread."""
    callers = [
        StaticBatches(
            graph,
            manifest,
            tried.batch_rows,
            backend=backend,
            optimizers=tried.optimizers,
            fixed=fixed,
        )
        for _ in range(tried.callers)
    ]
    return callers[0] if len(callers) == 1 else StaticCallers(callers)


def take_turns(
    tried: Mapping[Tried, Peer],
    samples: Sequence[Sample],
    repeats: int,
    progress: Callable[[], None] | None = None,
) -> dict[Tried, float]:
    """Return the median seconds of one sample by setting.

    Every setting takes its turn in each repeat, so that a machine whose speed drifts slows all of
    them alike; a first round warms up.
    """
    passes: dict[Tried, list[float]] = {key: [] for key in tried}
    for peer in tried.values():
        peer.prepare(samples, np.empty(0, dtype=np.int64))
    for repeat in range(repeats + 1):
        for key, peer in tried.items():
            seconds = peer.run().seconds
            if repeat:
                passes[key].append(seconds / len(samples))
            if progress:
                progress()
    return {key: statistics.median(found) for key, found in passes.items()}


def _close(tried: Mapping[Tried, Peer]) -> None:
    """Free what the peers hold; they can be prepared again."""
    for peer in tried.values():
        peer.close()


def _sizes(manifest: Manifest, sample: Sample) -> dict[str, int]:
    """Return what the symbolic sizes are in a sample."""
    return {
        symbol: size
        for name, spec in manifest.tensors.items()
        for symbol, size in zip(spec.shape, sample[name].shape, strict=True)
        if isinstance(symbol, str)
    }
