"""Consensus: the batch leaves together, once every row may."""

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.base import Exits
from exeunt.bench.peers.batches import BatchPeer
from exeunt.bench.peers.segments import Walk


class Consensus(BatchPeer):
    """The rule of the package `earlyon`: the hardest sample of a batch sets its pace.

    The batch leaves at the first layer at which the criterion holds for all of its rows, and each
    row has the answer of that layer. The rule alone is taken over, on the same segments as every
    other peer: the package itself serves convolutional models.
    """

    name = "consensus"

    def serve(self, walk: Walk, exits: Exits, left: Exits, logits: NDArray[np.float32]) -> None:
        """Walk one batch; see `BatchPeer.serve`."""
        for layer in range(1, self.depth + 1):
            walk.layer(layer)
            found = walk.head(layer)
            if found is not None and self.verdict(layer, found, exits).all():
                logits[:], left[:] = found, layer
                return
        logits[:], left[:] = walk.last_head(), self.depth
