"""The frame of every peer that serves batch after batch through the segments."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.base import DrawnVerdict, Exits, PeerRun, check_batch_rows
from exeunt.bench.peers.segments import Segments, Walk
from exeunt.bench.workloads.samples import Sample


class BatchPeer(ABC):
    """Serves the samples in batches of one size, each walked as the subclass says.

    Args:
        segments: of the bundle.
        batch_rows: rows of a batch; the last one may have fewer.
    """

    name: str

    def __init__(self, segments: Segments, batch_rows: int) -> None:
        self.segments = segments
        self.batch_rows = check_batch_rows(batch_rows)
        self.depth = segments.lane.depth
        self.verdict = DrawnVerdict()
        self._samples: Sequence[Sample] = ()
        self._exits: Exits = np.empty(0, dtype=np.int64)
        self._walk: Walk | None = None

    @property
    def settings(self) -> dict[str, str | int]:
        """The backend and the batch size."""
        return {"backend": self.segments.backend, "batch_rows": self.batch_rows}

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:
        """Take the samples; see `Peer.prepare`."""
        self._samples, self._exits = samples, exits
        self._walk = Walk(self.segments, samples, self.batch_rows)

    def run(self) -> PeerRun:
        """Serve all samples once; see `Peer.run`."""
        count = len(self._samples)
        left = np.zeros(count, dtype=np.int64)
        logits = np.zeros((count, self.segments.lane.classes or 0), dtype=np.float32)
        started_s = time.perf_counter()
        for first in range(0, count, self.batch_rows):
            self.serve_batch(first, left, logits)
        return PeerRun(time.perf_counter() - started_s, left, logits)

    def serve_batch(self, first: int, left: Exits, logits: NDArray[np.float32]) -> None:
        """Serve one batch.

        Args:
            first: its first sample's place.
            left: i64[N], of all samples; the batch's layers are written.
            logits: f32[N, C], of all samples; the batch's answers are written.
        """
        assert self._walk is not None, "prepare comes first"
        part = slice(first, first + self.batch_rows)
        self._walk.enter(self._samples[part])
        self.serve(self._walk, self._exits[part], left[part], logits[part])

    @abstractmethod
    def serve(self, walk: Walk, exits: Exits, left: Exits, logits: NDArray[np.float32]) -> None:
        """Walk a batch that has entered, and write where its rows left and with what.

        Args:
            walk: stands before layer 1.
            exits: i64[B], the layers at which the rows are to leave.
            left: i64[B], to be written.
            logits: f32[B, C], to be written.
        """

    def close(self) -> None:
        """Free the peer's memory; the segments belong to whoever loaded them."""
        self._walk = None
