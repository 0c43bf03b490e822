"""Where samples leave: distributions of exit layers by name, and samples drawn from them.

==================  ================================================================================
`uniform`           every layer alike
`bimodal`           60 % at a quarter of the depth (layer 3 of 12), 40 % at the last layer
`last`              all at the last layer
`rho:X`             mean depth X L, the distribution of maximum entropy: p(l) ~ exp(lambda l)
`recorded:FILE`     counts by layer, as `exeunt eval --json` prints them under `exits`; those of a
                    model of fewer layers are carried over to the same relative depths
==================  ================================================================================

`rho:X` is the one with the fewest assumptions of all on layers 1 .. L with that mean: a geometric
distribution cut off at L, rising or falling. `uniform` is its member at X = (L + 1) / (2 L).
"""

import json
from itertools import pairwise
from operator import index
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.errors import ConfigError

Shares = NDArray[np.float64]  # [L], the share of the samples that leave at each layer

EARLY_SHARE = 0.6  # of `bimodal`
SPECS = "uniform, bimodal, last, rho:X or recorded:FILE"


def draw_exits(spec: str, layers: int, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the exit layers of `count` samples.

    The draw is stratified: each layer has its share to within rounding, and the mean is as close to
    the distribution's as whole samples allow. The order is random.

    Args:
        spec: one of `uniform`, `bimodal`, `last`, `rho:X`, `recorded:FILE`.
        layers: L, the model's depth.
        count: samples, at least 1.
        seed: of the order.

    Returns:
        i64[count], in 1 .. L.

    Raises:
        ConfigError: there is no such distribution, or not over that depth.
    """
    if count < 1:
        raise ConfigError(f"{count} samples cannot be drawn: ask for at least 1")
    counts = _stratify(exit_shares(spec, layers), count)
    exits = np.repeat(np.arange(1, layers + 1, dtype=np.int64), counts)
    return np.random.default_rng(seed).permutation(exits)


def exit_shares(spec: str, layers: int) -> Shares:
    """Return the share of the samples that leave at each layer, f64[L], which sum to 1.

    Raises:
        ConfigError: see `draw_exits`.
    """
    if layers < 1:
        raise ConfigError(f"exits cannot be drawn over {layers} layers: expected at least 1")
    name, _, value = spec.partition(":")
    shares = np.zeros(layers)
    match name, value:
        case "uniform", "":
            return np.full(layers, 1 / layers)
        case "bimodal", "":
            shares[max(1, round(layers / 4)) - 1] += EARLY_SHARE
            shares[-1] += 1 - EARLY_SHARE
            return shares
        case "last", "":
            shares[-1] = 1.0
            return shares
        case "rho", _ if value:
            return _tilted(_rho(value, layers) * layers, layers)
        case "recorded", _ if value:
            return _recorded(Path(value), layers)
        case _:
            raise ConfigError(f"unknown exits {spec!r}: expected {SPECS}")


def _rho(text: str, layers: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 1 / layers <= value <= 1:
        raise ConfigError(
            f"exits rho:{text}: expected a number from {1 / layers:.4g} (every sample leaves at"
            f" layer 1 of {layers}) to 1 (none leaves early)"
        )
    return value


def _tilted(mean: float, layers: int) -> Shares:
    """Return p(l) ~ exp(lambda l) with that mean; lambda by bisection: the mean rises with it.

    A sharper tilt than e^50 a layer is all at one end in float64.
    """
    places = np.arange(1, layers + 1, dtype=np.float64)

    def shares(tilt: float) -> Shares:
        logits = tilt * places
        weights = np.exp(logits - logits.max())
        tilted: Shares = weights / weights.sum()
        return tilted

    low, high = -50.0, 50.0
    for _ in range(200):
        middle = (low + high) / 2
        if shares(middle) @ places < mean:
            low = middle
        else:
            high = middle
    return shares((low + high) / 2)


def _recorded(file: Path, layers: int) -> Shares:
    """Return the shares that a file records, at the same relative depth where it has fewer layers.

    Depths that do not divide this one cannot be carried over without changing rho.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"exits recorded:{file} cannot be read: {error}") from None
    counts = content.get("exits", content) if isinstance(content, dict) else None
    try:
        by_layer = {int(layer): index(number) for layer, number in (counts or {}).items()}
    except (AttributeError, TypeError, ValueError):
        by_layer = {}
    depth = len(by_layer)
    complete = depth and sorted(by_layer) == list(range(1, depth + 1))
    if not complete or min(by_layer.values()) < 0 or not sum(by_layer.values()):
        raise ConfigError(
            f"{file} holds no counts of every layer: expected"
            ' {"1": 20, "2": 0, "3": 5, ...} down to the model\'s last layer, or the report of'
            " `exeunt eval --json`, which has them under `exits`"
        )
    if layers % depth:
        raise ConfigError(
            f"{file} records a model of {depth} layers, the workload has {layers}: give it a"
            f" multiple of {depth} layers"
        )
    shares = np.zeros(layers)
    for layer, number in by_layer.items():
        shares[layer * (layers // depth) - 1] += number
    shares /= shares.sum()
    return shares


def _stratify(shares: Shares, count: int) -> NDArray[np.int64]:
    """Return whole numbers by layer: those of the shares, then moved until the mean fits.

    A move takes one sample from a layer to the next that has a share; of all that bring the mean
    nearer, the one that leaves the numbers nearest to the shares is taken.
    """
    exact = shares * count
    counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(counts - exact, kind="stable")[: count - counts.sum()]
    counts[rest] += 1
    places = np.arange(1, len(shares) + 1)
    target = float(exact @ places)
    support = [int(place) for place in np.flatnonzero(exact > 1e-9)]
    while True:
        gap = target - float(counts @ places)
        moves = [
            (float(((moved := _moved(counts, start, end)) - exact) @ (moved - exact)), start, end)
            for one, other in pairwise(support)
            for start, end in ((one, other), (other, one))
            if counts[start] and abs(gap - (end - start)) < abs(gap) - 1e-9
        ]
        if not moves:
            return counts
        _, start, end = min(moves)
        counts = _moved(counts, start, end)


def _moved(counts: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    moved = counts.copy()
    moved[start] -= 1
    moved[end] += 1
    return moved
