"""Compact: rows that leave are dropped from the batch, and nothing takes their places."""

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.base import Exits
from exeunt.bench.peers.batches import BatchPeer
from exeunt.bench.peers.segments import Walk


class Compact(BatchPeer):
    """The batch shrinks as its rows leave; the next one starts when it is empty."""

    name = "compact"

    def serve(self, walk: Walk, exits: Exits, left: Exits, logits: NDArray[np.float32]) -> None:
        """Walk one batch; see `BatchPeer.serve`."""
        rows = np.arange(len(exits))  # of the batch that are still there
        for layer in range(1, self.depth + 1):
            walk.layer(layer)
            found = walk.head(layer)
            if found is None:
                continue
            leaving = self.verdict(layer, found, exits[rows])
            if not leaving.any():
                continue
            logits[rows[leaving]], left[rows[leaving]] = found[leaving], layer
            places = np.flatnonzero(~leaving)
            if len(places) == 0:
                return
            walk.keep(places)
            rows = rows[places]
        logits[rows], left[rows] = walk.last_head(), self.depth
