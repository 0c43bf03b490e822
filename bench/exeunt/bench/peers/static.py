"""Full depth in static batches: the whole model as one graph, at its own best settings."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.base import Exits, PeerRun, check_batch_rows
from exeunt.bench.peers.collate import Collator
from exeunt.bench.workloads.lane import single_lane
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import ConfigError


class StaticBatches:
    """Serves the samples in batches of one size, each through the whole model.

    Args:
        graph: the whole model, with the output `logits`; see `load_whole`.
        manifest: the bundle's.
        batch_rows: rows of a batch; the last one may have fewer. A batch is padded to its longest
            sample.
        backend: what runs the graph, for the report.
        optimizers: the graph optimisers' setting, for the report.
        fixed: the same model compiled for full batches of the samples' one shape, where there is
            one; the last batch, which may have fewer rows, runs through `graph`.
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
        fixed: LoadedSegment | None = None,
    ) -> None:
        self._graph = graph
        self._fixed = fixed
        self._manifest = manifest
        lane = single_lane(manifest)
        self._depth, self._classes = lane.depth, lane.classes or 0
        self._batch_rows = check_batch_rows(batch_rows)
        self.settings: dict[str, str | int] = {
            "backend": backend,
            "batch_rows": batch_rows,
            "callers": 1,
            "optimizers": optimizers,
        }
        self._samples: Sequence[Sample] = ()
        self._collate: Collator | None = None
        self._calls: dict[object, Callable[[], None]] = {}
        self._logits = np.zeros((batch_rows, self._classes), dtype=np.float32)

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:  # noqa: ARG002 (full depth)
        """Take the samples; see `Peer.prepare`.

        Raises:
            ConfigError: they have several shapes, and the graph is compiled for one.
        """
        if self._fixed is not None and not alike(samples):
            raise ConfigError("a graph of fixed shapes was given samples of several lengths")
        self._samples = samples
        self._collate = Collator(self._manifest, samples, self._batch_rows)
        self._calls.clear()

    def run(self) -> PeerRun:
        """Serve all samples once, every one to full depth; see `Peer.run`."""
        count = len(self._samples)
        logits = np.zeros((count, self._classes), dtype=np.float32)
        started_s = time.perf_counter()
        for first in range(0, count, self._batch_rows):
            self.serve_batch(first, logits)
        seconds = time.perf_counter() - started_s
        return PeerRun(seconds, np.full(count, self._depth, dtype=np.int64), logits)

    def serve_batch(self, first: int, logits: NDArray[np.float32]) -> None:
        """Serve one batch.

        Args:
            first: its first sample's place.
            logits: f32[N, C], of all samples; the batch's answers are written.
        """
        assert self._collate is not None, "prepare comes before run"
        batch = self._collate(self._samples[first : first + self._batch_rows])
        rows = min(self._batch_rows, len(self._samples) - first)
        key = tuple(array.shape for array in batch.values())
        call = self._calls.get(key)
        if call is None:
            full = rows == self._batch_rows
            graph = self._fixed if full and self._fixed is not None else self._graph
            call = self._calls[key] = graph.bind(batch, {"logits": self._logits[:rows]})
        call()
        logits[first : first + rows] = self._logits[:rows]

    def close(self) -> None:
        """Free the peer's memory; the graph belongs to whoever loaded it."""
        self._collate = None
        self._calls.clear()


def alike(samples: Sequence[Sample]) -> bool:
    """Return whether all samples have the same shapes."""
    first = {name: array.shape for name, array in samples[0].items()}
    return all({name: array.shape for name, array in s.items()} == first for s in samples)
