"""Full depth in static batches, several of them at the same time."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.base import Exits, PeerRun
from exeunt.bench.peers.static import StaticBatches
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.errors import ConfigError


class StaticCallers:
    """Serves the samples from several threads, each with its share of them and its own memory.

    A caller that has served its share goes on with batches that nobody counts, until all are
    through: a steady state, as the engine's is. The pass takes as long as all samples would at the
    rates of the callers together.

    Args:
        callers: one for each thread, alike; their graphs may be the same, if it can run several
            calls at a time.
    """

    name = "static"

    def __init__(self, callers: Sequence[StaticBatches]) -> None:
        self._callers = tuple(callers)
        first = self._callers[0].settings
        self._batch_rows = int(first["batch_rows"])
        self.settings: dict[str, str | int] = {**first, "callers": len(self._callers)}
        self._shares: list[Sequence[Sample]] = []
        self._threads: ThreadPoolExecutor | None = None

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:
        """Take the samples; see `Peer.prepare`.

        Raises:
            ConfigError: a caller's share does not fill a batch.
        """
        ends = [len(samples) * n // len(self._callers) for n in range(len(self._callers) + 1)]
        self._shares = [samples[a:b] for a, b in pairwise(ends)]
        least = min(len(share) for share in self._shares)
        if least < self._batch_rows:
            raise ConfigError(
                f"{len(samples)} samples give one of {len(self._callers)} callers {least}, which"
                f" fill no batch of {self._batch_rows} rows: give more samples"
            )
        for caller, share in zip(self._callers, self._shares, strict=True):
            caller.prepare(share, exits[:0])
        self._threads = self._threads or ThreadPoolExecutor(len(self._callers))

    def run(self) -> PeerRun:
        """Serve all samples once, every one to full depth; see `Peer.run`."""
        assert self._threads is not None, "prepare comes before run"
        start, ended = Barrier(len(self._callers)), list[float]()

        def serve(
            caller: StaticBatches, share: Sequence[Sample]
        ) -> tuple[float, Exits, NDArray[np.float32]]:
            start.wait()
            try:
                found = caller.run()
            finally:
                ended.append(time.perf_counter())
            spare = np.zeros_like(found.logits)
            while len(ended) < len(self._callers):
                caller.serve_batch(0, spare)
            return len(share) / found.seconds, found.exit_layers, found.logits

        found = list(self._threads.map(serve, self._callers, self._shares))
        layers = np.concatenate([one[1] for one in found])
        logits = np.concatenate([one[2] for one in found])
        return PeerRun(len(layers) / sum(one[0] for one in found), layers, logits)

    def close(self) -> None:
        """Free the callers' memory and end their threads; the graphs are whoever's loaded them."""
        for caller in self._callers:
            caller.close()
        self._shares = []
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
