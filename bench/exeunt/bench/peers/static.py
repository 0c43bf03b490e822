"""Full depth in static batches: the whole model as one graph, at its own best settings."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exeunt.bench.peers.base import Exits, PeerRun, check_batch_rows
from exeunt.bench.peers.collate import Collator
from exeunt.bench.workloads.lane import single_lane
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.backends.base import Backend, LoadedSegment
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ConfigError

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class StaticBatches:
    """Serves the samples in batches of one size, each through the whole model.

    Args:
        graph: the whole model, with the output `logits`; see `load_whole`.
        manifest: the bundle's.
        batch_rows: rows of a batch; the last one may have fewer. A batch is padded to its longest
            sample.
        backend: what runs the graph, for the report.
        optimizers: the graph optimisers' setting, for the report.
    """

    name = "static"

    def __init__(
        self,
        graph: LoadedSegment,
        manifest: Manifest,
        batch_rows: int,
        *,
        backend: str,
        optimizers: str = "default",
    ) -> None:
        self._graph = graph
        self._manifest = manifest
        lane = single_lane(manifest)
        self._depth, self._classes = lane.depth, lane.classes or 0
        self._batch_rows = check_batch_rows(batch_rows)
        self.settings: dict[str, str | int] = {
            "backend": backend,
            "batch_rows": batch_rows,
            "optimizers": optimizers,
        }
        self._samples: Sequence[Sample] = ()
        self._collate: Collator | None = None
        self._calls: dict[object, Callable[[], None]] = {}
        self._logits = np.zeros((batch_rows, self._classes), dtype=np.float32)

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:  # noqa: ARG002 (full depth)
        """Take the samples; see `Peer.prepare`."""
        self._samples = samples
        self._collate = Collator(self._manifest, samples, self._batch_rows)
        self._calls.clear()

    def run(self) -> PeerRun:
        """Serve all samples once, every one to full depth; see `Peer.run`."""
        assert self._collate is not None, "prepare comes before run"
        count = len(self._samples)
        logits = np.zeros((count, self._classes), dtype=np.float32)
        started_s = time.perf_counter()
        for first in range(0, count, self._batch_rows):
            batch = self._collate(self._samples[first : first + self._batch_rows])
            rows = min(self._batch_rows, count - first)
            key = tuple(array.shape for array in batch.values())
            call = self._calls.get(key)
            if call is None:
                call = self._graph.bind(batch, {"logits": self._logits[:rows]})
                self._calls[key] = call
            call()
            logits[first : first + rows] = self._logits[:rows]
        seconds = time.perf_counter() - started_s
        return PeerRun(seconds, np.full(count, self._depth, dtype=np.int64), logits)

    def close(self) -> None:
        """Free the peer's memory; the graph belongs to whoever loaded it."""
        self._collate = None
        self._calls.clear()


@dataclass(frozen=True)
class StaticSearch:
    """What was tried. seconds: of one sample, median, by optimisers' setting and batch size."""

    best: StaticBatches
    seconds: dict[tuple[str, int], float]


def static_graphs(
    bundle: Bundle, backend: Backend, threads: int, cache_dir: Path | None = None
) -> dict[str, LoadedSegment]:
    """Return the whole model, loaded once for each setting of the graph optimisers.

    Under ONNX Runtime the engine's own setting and the library's are tried; the other backends have
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
    from exeunt.bench.peers.onnx_session import OnnxGraph

    return {
        "without SkipLayerNormFusion": own,
        "with SkipLayerNormFusion": OnnxGraph(file, threads, []),
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

    Every setting takes its turn in each repeat, so that a machine whose speed drifts slows all of
    them alike; a first round warms up.

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
    passes: dict[tuple[str, int], list[float]] = {key: [] for key in tried}
    for peer in tried.values():
        peer.prepare(samples, np.empty(0, dtype=np.int64))
    for repeat in range(repeats + 1):
        for key, peer in tried.items():
            seconds = peer.run().seconds
            if repeat:
                passes[key].append(seconds / len(samples))
            if progress:
                progress()
    medians = {key: statistics.median(found) for key, found in passes.items()}
    best = min(medians, key=lambda key: medians[key])
    for peer in tried.values():
        peer.close()
    return StaticSearch(tried[best], medians)
