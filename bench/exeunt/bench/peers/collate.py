"""Stacking samples into batches."""

from collections.abc import Sequence

import numpy as np

from exeunt.bench.workloads.samples import Sample
from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.tensors import numpy_dtype


class Collator:
    """Stacks samples in memory of its own, each padded with zeros to the longest of its batch.

    A zero in a mask is padding, so what stands beside it is never read.

    Args:
        manifest: its `tensors` say which sizes may differ.
        samples: all that will ever be stacked; they set how much memory is taken.
        max_rows: of a batch.
        static: pad every batch to the longest of all samples, so that only one shape is ever met.
    """

    def __init__(
        self,
        manifest: Manifest,
        samples: Sequence[Sample],
        max_rows: int,
        *,
        static: bool = False,
    ) -> None:
        self._static = static
        self._names = tuple(manifest.tensors)
        self._symbols = {
            name: tuple(dim if isinstance(dim, str) else None for dim in spec.shape)
            for name, spec in manifest.tensors.items()
        }
        longest = self._shapes(samples)
        self._memory = {
            name: np.zeros(max_rows * int(np.prod(longest[name])), numpy_dtype(spec.dtype))
            for name, spec in manifest.tensors.items()
        }
        self.longest = longest

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Array]:
        """Return the batch by tensor, each [B, ...]; the next call overwrites it."""
        shapes = self.longest if self._static else self._shapes(samples)
        batch = {}
        for name in self._names:
            shape = (len(samples), *shapes[name])
            stacked = self._memory[name][: int(np.prod(shape))].reshape(shape)
            parts = [sample[name] for sample in samples]
            if all(part.shape == shape[1:] for part in parts):
                np.stack(parts, out=stacked)
            else:
                stacked.fill(0)
                for row, part in zip(stacked, parts, strict=True):
                    row[tuple(slice(size) for size in part.shape)] = part
            batch[name] = stacked
        return batch

    def _shapes(self, samples: Sequence[Sample]) -> dict[str, tuple[int, ...]]:
        """Return each tensor's shape in a batch of the samples: the longest of every size."""
        sizes: dict[str, int] = {}
        for sample in samples:
            for name, symbols in self._symbols.items():
                for symbol, size in zip(symbols, sample[name].shape, strict=True):
                    if symbol is not None and size > sizes.get(symbol, 0):
                        sizes[symbol] = size
        first = samples[0]
        return {
            name: tuple(
                size if symbol is None else sizes[symbol]
                for symbol, size in zip(symbols, first[name].shape, strict=True)
            )
            for name, symbols in self._symbols.items()
        }
