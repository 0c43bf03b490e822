"""What every in-process peer provides, and the verdict that all of them share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.workloads.samples import Sample
from exeunt.engine.criteria import Entropy, Evidence
from exeunt.engine.errors import ConfigError

Exits = NDArray[np.int64]  # [N], the layer at which each sample is to leave


@dataclass(frozen=True)
class PeerRun:
    """One pass over all samples.

    seconds: from the first sample taken to the last answer, batches stacked within. exit_layers:
    i64[N], of the layer that answered. logits: f32[N, C].
    """

    seconds: float
    exit_layers: Exits
    logits: NDArray[np.float32]


class Peer(Protocol):
    """Another way to serve the same samples. The first `run` after `prepare` warms up."""

    @property
    def name(self) -> str:
        """The peer's name in reports."""
        ...

    @property
    def settings(self) -> dict[str, str | int]:
        """What it was run with, such as its batch size, for the report."""
        ...

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:
        """Take the samples, at least one, and the layers at which they are to leave.

        A peer of full depth runs every sample to the end, whatever `exits` says.
        """
        ...

    def run(self) -> PeerRun:
        """Serve all samples once, as fast as it can.

        Raises:
            SegmentError: a graph failed.
        """
        ...

    def close(self) -> None:
        """Free what the peer holds; closing twice is harmless."""
        ...


class DrawnVerdict:
    """The entropy criterion with thresholds that make each sample leave at its drawn layer.

    The scores are computed and compared as the engine does it; only the thresholds are such that
    the answer is known (see `exeunt.bench.workloads.policies`).
    """

    def __init__(self) -> None:
        self._criterion = Entropy()

    def __call__(self, layer: int, logits: NDArray[np.float32], exits: Exits) -> NDArray[np.bool_]:
        """Return [B] whether the criterion holds for each row.

        Args:
            layer: the one that just ran, counting from 1.
            logits: f32[B, C], of its head.
            exits: i64[B], the layers from which on the criterion is to hold.
        """
        scores = self._criterion.score(Evidence(layer, logits))
        return self._criterion.fires(scores, np.where(exits <= layer, np.inf, 0.0))


def check_batch_rows(batch_rows: int) -> int:
    """Return the batch size; raises ConfigError where it is not at least 1."""
    if batch_rows < 1:
        raise ConfigError(f"a batch of {batch_rows} rows cannot be run: give at least 1")
    return batch_rows
