"""Batch 1: the papers' own loop, one sample after the other."""

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.base import Exits
from exeunt.bench.peers.batches import BatchPeer
from exeunt.bench.peers.segments import Segments, Walk


class Batch1(BatchPeer):
    """A sequential early-exit loop: a sample runs until its criterion fires, then the next one."""

    name = "batch-1"

    def __init__(self, segments: Segments) -> None:
        super().__init__(segments, batch_rows=1)

    def serve(self, walk: Walk, exits: Exits, left: Exits, logits: NDArray[np.float32]) -> None:
        """Walk one sample; see `BatchPeer.serve`."""
        for layer in range(1, self.depth + 1):
            walk.layer(layer)
            found = walk.head(layer)
            if found is not None and self.verdict(layer, found, exits)[0]:
                logits[0], left[0] = found[0], layer
                return
        logits[0], left[0] = walk.last_head()[0], self.depth
