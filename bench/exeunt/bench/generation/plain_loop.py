"""The peer: static batches to full depth, greedily, token by token until the last row has ended."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.onnx_session import OnnxGraph
from exeunt.bench.workloads.generating_graphs import generating_graphs, looping_lane
from exeunt.engine.backends.base import Array
from exeunt.engine.backends.onnxruntime.backend import DISABLED_OPTIMIZERS
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.bundle.tensors import numpy_dtype
from exeunt.engine.decoding.options import GenerationOptions
from exeunt.engine.decoding.rules import TokenRules


@dataclass(frozen=True)
class LoopSample:
    """One sample: raw tensors without a sample axis, and the answers to choose from, if any."""

    tensors: dict[str, Array]
    allowed: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class LoopRun:
    """One pass. seconds: from the first batch stacked to the last answer. tokens: of each."""

    seconds: float
    tokens: list[tuple[int, ...]]


class PlainLoop:
    """Serves samples as a script would: two ONNX Runtime sessions and a loop around the second.

    Rows of a batch are padded to its longest text; those that have ended run on until all have. An
    allowed list ends at its first token, as the engine does where that decides.

    Args:
        bundle: of a model that generates.
        threads: of the process-wide pool.
        batch_rows: of a static batch.
        cache_dir: of the joined graphs.
    """

    def __init__(
        self, bundle: Bundle, threads: int, batch_rows: int, cache_dir: Path | None = None
    ) -> None:
        graphs = generating_graphs(bundle, cache_dir=cache_dir)
        self._graphs = graphs
        self._lane = looping_lane(bundle.manifest)
        self._once = OnnxGraph(graphs.once, threads, DISABLED_OPTIMIZERS)
        self._step = OnnxGraph(graphs.step, threads, DISABLED_OPTIMIZERS)
        self._batch_rows = batch_rows

    def run(self, samples: Sequence[LoopSample]) -> LoopRun:
        """Serve samples of one task in their order."""
        started_s = time.perf_counter()
        tokens: list[tuple[int, ...]] = []
        for first in range(0, len(samples), self._batch_rows):
            batch = samples[first : first + self._batch_rows]
            tokens += self._generate(batch)
        return LoopRun(time.perf_counter() - started_s, tokens)

    def _generate(self, batch: Sequence[LoopSample]) -> list[tuple[int, ...]]:
        loop = self._lane.loop
        assert loop is not None, "the lane loops"
        rows = len(batch)
        constants = self._once.run(_stacked([one.tensors for one in batch], loop.pad))
        caches = {
            name: np.zeros(
                (rows, *(int(dim) for dim in self._lane.state[name].shape)),
                dtype=numpy_dtype(self._lane.state[name].dtype),
            )
            for name in self._graphs.caches
        }
        allowed = batch[0].allowed
        rules = TokenRules.of(loop, GenerationOptions())
        token = np.full((rows, 1), loop.start, dtype=np.int64)
        found: list[list[int]] = [[] for _ in batch]
        live = [True] * rows
        for step in range(loop.max_steps):
            places = np.full(rows, step, dtype=np.int64)
            made = self._step.run(
                {"token": token, "step": places, "cached": places, **constants, **caches}
            )
            for row in range(rows):
                if not live[row]:
                    continue
                best = _best(made["logits"][row], found[row], rules, allowed)
                found[row].append(best)
                token[row, 0] = best
                live[row] = not (allowed or rules.ends(found[row]))
            if not any(live):
                break
            for name, cache in caches.items():
                cache[:, step] = made[f"new_{name}"]
        return [tuple(tokens) for tokens in found]


def _best(
    logits: NDArray[np.float32],
    tokens: Sequence[int],
    rules: TokenRules,
    allowed: Sequence[Sequence[int]],
) -> int:
    if allowed:
        first = [answer[0] for answer in allowed]
        return first[int(logits[first].argmax())]
    return int(rules.rule_out(logits, tokens).argmax())


def _stacked(samples: Sequence[Mapping[str, Array]], pad: int) -> dict[str, Array]:
    """Return the batch's raw tensors, texts padded to its longest."""
    stacked: dict[str, Array] = {}
    for name in samples[0]:
        arrays = [sample[name] for sample in samples]
        longest = max(array.shape[0] for array in arrays) if arrays[0].ndim == 1 else 0
        if longest:
            fill = 0 if "mask" in name else pad
            arrays = [
                np.pad(array, (0, longest - len(array)), constant_values=fill) for array in arrays
            ]
        stacked[name] = np.stack(arrays)
    return stacked
