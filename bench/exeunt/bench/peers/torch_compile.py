"""Full depth under torch.compile: the model as Python code, compiled for one batch size."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from exeunt.bench.peers.base import Exits, PeerRun, check_batch_rows
from exeunt.bench.peers.collate import Collator
from exeunt.bench.workloads.config import UniterConfig
from exeunt.bench.workloads.samples import Sample
from exeunt.bench.workloads.uniter import uniter_base
from exeunt.engine.bundle.manifest import Manifest


class TorchCompile:
    """Serves the samples in static batches through the compiled model, in float32.

    Every batch has the same shape, since another would compile again: samples are padded to the
    longest of all, and the last batch is filled up with its own rows, whose time counts.

    Args:
        config: of the synthetic model, whose weights are drawn again: those of its bundle.
        manifest: the bundle's.
        batch_rows: rows of every batch.
        threads: of torch, in the whole process.
        compiler: the backend of torch.compile.
    """

    name = "torch.compile"

    def __init__(
        self,
        config: UniterConfig,
        manifest: Manifest,
        batch_rows: int,
        threads: int,
        compiler: str = "inductor",
    ) -> None:
        self._config = config
        self._manifest = manifest
        self._batch_rows = check_batch_rows(batch_rows)
        self.settings: dict[str, str | int] = {
            "backend": f"torch.compile, {compiler}",
            "batch_rows": batch_rows,
            "threads": threads,
        }
        torch.set_num_threads(threads)
        model = uniter_base(config)
        self._model: Callable[..., Tensor] | None = torch.compile(
            model.at_depth, dynamic=False, backend=compiler
        )
        self._samples: Sequence[Sample] = ()
        self._collate: Collator | None = None

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:  # noqa: ARG002 (full depth)
        """Take the samples; the first `run` compiles, which takes minutes for a large model."""
        self._samples = samples
        self._collate = Collator(self._manifest, samples, self._batch_rows, static=True)

    def run(self) -> PeerRun:
        """Serve all samples once, every one to full depth; see `Peer.run`."""
        assert self._collate is not None, "prepare comes before run"
        assert self._model is not None, "close comes last"
        count = len(self._samples)
        logits = np.zeros((count, self._config.labels), dtype=np.float32)
        started_s = time.perf_counter()
        with torch.inference_mode():
            for first in range(0, count, self._batch_rows):
                part = list(self._samples[first : first + self._batch_rows])
                filled = [part[place % len(part)] for place in range(self._batch_rows)]
                batch = self._collate(filled)
                found = self._model(*(torch.from_numpy(array) for array in batch.values()))
                logits[first : first + len(part)] = found.numpy()[: len(part)]
        seconds = time.perf_counter() - started_s
        return PeerRun(seconds, np.full(count, self._config.layers, dtype=np.int64), logits)

    def close(self) -> None:
        """Drop the compiled model."""
        self._model = None
        self._collate = None
