"""What one layer and one exit check cost in a batch of a given size."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from exeunt.bench.peers import Segments
from exeunt.bench.peers.segments import Walk
from exeunt.bench.workloads import Sample
from exeunt.engine.criteria import Entropy, Evidence


@dataclass(frozen=True)
class LayerTimes:
    """Median seconds of a batch. layer_s: first layer first. head_s: of a head and the entropy."""

    layer_s: tuple[float, ...]
    head_s: dict[int, float]


def layer_times(
    segments: Segments, samples: Sequence[Sample], batch_rows: int, repeats: int = 3
) -> LayerTimes:
    """Time each layer and exit check alone, on batches of the first samples.

    Args:
        segments: of the bundle.
        samples: at least `batch_rows`.
        batch_rows: B.
        repeats: counted passes; one before them warms up.
    """
    batch = samples[:batch_rows]
    walk = Walk(segments, batch, batch_rows)
    criterion, depth = Entropy(), segments.lane.depth
    layers: list[list[float]] = [[] for _ in range(depth)]
    heads: dict[int, list[float]] = {}
    for repeat in range(repeats + 1):
        walk.enter(batch)
        for layer in range(1, depth + 1):
            started_s = time.perf_counter()
            walk.layer(layer)
            ran_s = time.perf_counter()
            logits = walk.head(layer)
            if logits is not None:
                criterion.score(Evidence(layer, logits))
            ended_s = time.perf_counter()
            if repeat:
                layers[layer - 1].append(ran_s - started_s)
                if logits is not None:
                    heads.setdefault(layer, []).append(ended_s - ran_s)
    return LayerTimes(
        tuple(statistics.median(found) for found in layers),
        {layer: statistics.median(found) for layer, found in heads.items()},
    )
