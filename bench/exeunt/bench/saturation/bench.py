"""One saturation run: every contender takes its turn in each repeat, on the same samples."""

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import get_args

from exeunt.bench.peers import (
    Batch1Processes,
    FullDepth,
    OwnProcess,
    Peer,
    PeerRun,
    Segments,
    best_of_all_ways,
    build_segment_peer,
    segment_peer,
)
from exeunt.bench.peers.by_segments import SegmentPeer
from exeunt.bench.saturation.engine_peer import EnginePeer
from exeunt.bench.saturation.occupancy import LayerTimes, layer_times
from exeunt.bench.saturation.report import SaturationReport
from exeunt.bench.saturation.settings import SaturationSettings
from exeunt.bench.saturation.summarise import summarise
from exeunt.bench.trace import write_trace
from exeunt.bench.workloads import Sample, draw_exits, draw_samples, uniter_base_bundle
from exeunt.engine import Engine, EngineConfig
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ConfigError

MOST_QUEUED_ROWS = 2**31  # until it is known how many a pass needs
SEGMENT_PEERS = get_args(SegmentPeer)
# In the search for the baseline's best batch; the best is then measured in turns with the engine.
# Of each caller, in the search: a part of a pass, but at least so many samples. Larger batches than
# it has samples are not tried.
SEARCH_SHARE, LEAST_SEARCHED, SEARCH_REPEATS = 8, 16, 1
# Smaller ones are slower on every backend measured so far, and 64 was never quicker beyond noise.
SEARCH_SIZES = (4, 8, 16, 32)
Progress = Callable[[str], None]


def bench_saturation(
    settings: SaturationSettings,
    *,
    trace: Path | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> SaturationReport:
    """Measure the engine at saturation against full depth in static batches and other peers.

    Args:
        settings: what to measure.
        trace: a file for Perfetto of the engine's last counted pass; see `write_trace`.
        cache_dir: where the workload's bundle and graphs are kept; see `bench_cache`.
        progress: called with what comes next.

    Raises:
        ConfigError: a setting cannot be had here, or the trace cannot be written.
        SegmentError: a graph failed, or a row left at another layer than it was drawn to.
    """
    tell = progress or _silent
    _check_trace(trace)
    with ExitStack() as stack:
        backend = _open_backend(settings)
        stack.callback(backend.close)
        tell("preparing the bundle")
        bundle = _open_bundle(settings, cache_dir)
        samples = draw_samples(
            settings.workload, settings.counted, lengths=settings.lengths, seed=settings.seed
        )
        exits = draw_exits(settings.exits, settings.layers, settings.counted, settings.seed)
        segments = Segments(bundle, backend)
        tell("searching full depth's best batch")
        static, tried = _best_static(settings, bundle, backend, samples, cache_dir)
        engine = _open_engine(settings, bundle, backend)
        traced_run = None if trace is None else settings.repeats  # the run before warms up
        ours = EnginePeer(engine, traced_run)
        peers: list[Peer] = [ours, static, *_peers(settings, bundle, segments, static)]
        for peer in peers:
            stack.callback(peer.close)
            peer.prepare(samples, exits)
        runs = _take_turns(peers, settings.repeats, tell)
        if trace is not None and ours.trace is not None:
            write_trace(ours.trace, trace)
        tell("timing layers and exit checks")
        times = _layer_times(segments, samples, settings)
    return summarise(settings, peers, runs, exits, times, tried, ours.shares[1:], ours.fills[1:])


def _check_trace(trace: Path | None) -> None:
    """Refuse a trace that could not be written, before minutes are spent on measuring."""
    if trace is not None and not trace.parent.is_dir():
        raise ConfigError(
            f"cannot write the trace to {trace}: there is no directory {trace.parent}; make it, or"
            " name another file"
        )


def _open_backend(settings: SaturationSettings) -> Backend:
    """Return the engine's backend, whose threads are shared out among its streams."""
    return open_backend(
        settings.backend, settings.compute_threads, settings.precision, settings.streams
    )


def _open_bundle(settings: SaturationSettings, cache_dir: Path | None) -> Bundle:
    # One thread pool a process: where the engine computes under ONNX Runtime, it is the engine's.
    streams = settings.streams if settings.backend == "onnxruntime" else 1
    writer = open_backend("onnxruntime", settings.compute_threads, streams=streams)
    root = uniter_base_bundle(settings.workload, cache_dir=cache_dir, backend=writer)
    return Bundle.open(root)


def _best_static(
    settings: SaturationSettings,
    bundle: Bundle,
    backend: Backend,
    samples: list[Sample],
    cache_dir: Path | None,
) -> tuple[Peer, dict[str, float]]:
    each = max(settings.counted // SEARCH_SHARE, LEAST_SEARCHED)
    wanted = FullDepth(
        samples=samples[: each * settings.streams],
        threads=settings.compute_threads,
        streams=settings.streams,
        precision=settings.precision,
        sizes=SEARCH_SIZES,
        repeats=SEARCH_REPEATS,
        cache_dir=cache_dir,
    )
    best, seconds = best_of_all_ways(bundle, backend, wanted)
    tried = {
        f"{name}, {rows} rows" + (f", {callers} callers" if callers > 1 else ""): taken
        for (name, rows, callers), taken in seconds.items()
    }
    return best, tried


def _open_engine(settings: SaturationSettings, bundle: Bundle, backend: Backend) -> Engine:
    config = EngineConfig(
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads,
        streams=settings.streams,
        max_batch_rows=settings.batch_rows,
        max_queued_rows=MOST_QUEUED_ROWS,
        sizes=_sizes(settings),
    )
    rows = EnginePeer.queue_rows(settings.counted, config)
    config = config.model_copy(update={"max_queued_rows": rows})
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


def _peers(
    settings: SaturationSettings, bundle: Bundle, segments: Segments, static: Peer
) -> Iterator[Peer]:
    """Yield the peers that were asked for; each computes on all threads."""
    threads, precision = settings.compute_threads, settings.precision
    own_process = settings.streams > 1 and settings.backend == "onnxruntime"
    if settings.streams > 1 and not own_process and set(settings.peers) & set(SEGMENT_PEERS):
        segments = Segments(bundle, open_backend(settings.backend, threads, precision))
    for name in settings.peers:
        match name:
            case "batch-1 processes":
                yield Batch1Processes(bundle.root, settings.backend, threads, precision)
            case "torch.compile":
                from exeunt.bench.peers.torch_compile import TorchCompile

                best = int(static.settings["batch_rows"])
                yield TorchCompile(settings.workload, bundle.manifest, best, threads)
            case _ if own_process:
                rows, backend = settings.batch_rows, settings.backend
                build = partial(build_segment_peer, name, bundle.root, backend, threads, rows)
                yield OwnProcess(name, build)
            case _:
                yield segment_peer(name, segments, settings.batch_rows)


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
