"""One saturation run: every contender takes its turn in each repeat, on the same samples."""

import gc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from exeunt.bench.peers import (
    Batch1,
    Batch1Processes,
    Compact,
    Consensus,
    Peer,
    PeerRun,
    RunUntilLast,
    Segments,
    StaticBatches,
    best_static,
)
from exeunt.bench.saturation.engine_peer import EnginePeer
from exeunt.bench.saturation.occupancy import LayerTimes, layer_times
from exeunt.bench.saturation.report import SaturationReport, summarise
from exeunt.bench.saturation.settings import PeerName, SaturationSettings
from exeunt.bench.workloads import Sample, draw_exits, draw_samples, uniter_base_bundle
from exeunt.engine import Engine, EngineConfig
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.bundle.reader import Bundle

# In the search for the baseline's best batch; the best is then measured in turns with the engine.
SEARCH_SAMPLES, SEARCH_REPEATS = 64, 1
SEARCH_SIZES = (4, 8, 16, 32, 64)  # smaller ones are slower on every backend measured so far
Progress = Callable[[str], None]


def bench_saturation(
    settings: SaturationSettings,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> SaturationReport:
    """Measure the engine at saturation against full depth in static batches and other peers.

    Args:
        settings: what to measure.
        cache_dir: where the workload's bundle and graphs are kept; see `bench_cache`.
        progress: called with what comes next.

    Raises:
        ConfigError: a setting cannot be had here.
        SegmentError: a graph failed, or a row left at another layer than it was drawn to.
    """
    tell = progress or _silent
    config = settings.workload
    with ExitStack() as stack:
        backend = open_backend(settings.backend, settings.compute_threads, settings.precision)
        stack.callback(backend.close)
        tell("preparing the bundle")
        writer = open_backend("onnxruntime", settings.compute_threads)
        root = uniter_base_bundle(config, cache_dir=cache_dir, backend=writer)
        bundle = Bundle.open(root)
        samples = draw_samples(
            config, settings.counted, lengths=settings.lengths, seed=settings.seed
        )
        exits = draw_exits(settings.exits, settings.layers, settings.counted, settings.seed)
        segments = Segments(bundle, backend)
        tell("searching full depth's best batch")
        static, tried = _best_static(settings, bundle, backend, samples, cache_dir)
        ours = EnginePeer(_open_engine(settings, bundle, backend))
        peers: list[Peer] = [ours, static]
        peers += [_peer(name, settings, bundle, root, segments, static) for name in settings.peers]
        for peer in peers:
            stack.callback(peer.close)
            peer.prepare(samples, exits)
        runs = _take_turns(peers, settings.repeats, tell)
        tell("timing layers and exit checks")
        times = _layer_times(segments, samples, settings)
    return summarise(settings, peers, runs, exits, times, tried, ours.shares[1:])


def _best_static(
    settings: SaturationSettings,
    bundle: Bundle,
    backend: Backend,
    samples: list[Sample],
    cache_dir: Path | None,
) -> tuple[StaticBatches, dict[str, float]]:
    search = best_static(
        bundle,
        backend,
        samples[:SEARCH_SAMPLES],
        threads=settings.compute_threads,
        precision=settings.precision,
        sizes=SEARCH_SIZES,
        repeats=SEARCH_REPEATS,
        cache_dir=cache_dir,
    )
    tried = {f"{name}, {rows} rows": seconds for (name, rows), seconds in search.seconds.items()}
    return search.best, tried


def _open_engine(settings: SaturationSettings, bundle: Bundle, backend: Backend) -> Engine:
    rows = EnginePeer.queue_rows(settings.counted, settings.batch_rows)
    config = EngineConfig(
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads,
        max_batch_rows=settings.batch_rows,
        max_queued_rows=rows,
        sizes=_sizes(settings),
    )
    return Engine.open(bundle, config, backend=backend)


def _sizes(settings: SaturationSettings) -> dict[str, tuple[int, ...]]:
    """Return the sizes to warm up with; those that vary take the bundle's own buckets."""
    words, regions = (settings.workload.words,), (settings.workload.regions,)
    match settings.lengths:
        case "fixed":
            return {"S": words, "R": regions}
        case "varying-text":
            return {"R": regions}
        case "varying":
            return {}


def _peer(
    name: PeerName,
    settings: SaturationSettings,
    bundle: Bundle,
    root: Path,
    segments: Segments,
    static: StaticBatches,
) -> Peer:
    rows, threads = settings.batch_rows, settings.compute_threads
    match name:
        case "run-until-last":
            return RunUntilLast(segments, rows)
        case "compact":
            return Compact(segments, rows)
        case "consensus":
            return Consensus(segments, rows)
        case "batch-1":
            return Batch1(segments)
        case "batch-1 processes":
            return Batch1Processes(root, settings.backend, threads, settings.precision)
        case "torch.compile":
            from exeunt.bench.peers.torch_compile import TorchCompile

            best = int(static.settings["batch_rows"])
            return TorchCompile(settings.workload, bundle.manifest, best, threads)


def _take_turns(peers: list[Peer], repeats: int, tell: Progress) -> dict[str, list[PeerRun]]:
    """Run every peer once to warm up, then in turns; the garbage is collected in between."""
    runs: dict[str, list[PeerRun]] = {peer.name: [] for peer in peers}
    for repeat in range(repeats + 1):
        for peer in peers if repeat % 2 else reversed(peers):
            tell(f"repeat {repeat} of {repeats}: {peer.name}")
            gc.collect()
            run = peer.run()
            if repeat:
                runs[peer.name].append(run)
    return runs


def _layer_times(
    segments: Segments, samples: list[Sample], settings: SaturationSettings
) -> LayerTimes:
    longest = sorted(samples, key=lambda s: -sum(len(array) for array in s.values()))
    return layer_times(segments, longest, min(settings.batch_rows, len(samples)))


def _silent(step: str) -> None:
    """Tell nobody."""
