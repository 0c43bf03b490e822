"""Run until the last: every row answers at its own layer, but the batch stays whole."""

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.base import Exits
from exeunt.bench.peers.batches import BatchPeer
from exeunt.bench.peers.segments import Walk


class RunUntilLast(BatchPeer):
    """The batch runs on, all rows of it, until its last row leaves.

    Each row's answer is that of its own exit; what is computed for it afterwards is thrown away.
    """

    name = "run-until-last"

    def serve(self, walk: Walk, exits: Exits, left: Exits, logits: NDArray[np.float32]) -> None:
        """Walk one batch; see `BatchPeer.serve`."""
        waiting = np.ones(len(exits), dtype=np.bool_)
        for layer in range(1, self.depth + 1):
            walk.layer(layer)
            found = walk.head(layer)
            if found is not None:
                leaving = waiting & self.verdict(layer, found, exits)
                logits[leaving], left[leaving] = found[leaving], layer
                waiting &= ~leaving
            if not waiting.any():
                return
        logits[waiting], left[waiting] = walk.last_head()[waiting], self.depth
