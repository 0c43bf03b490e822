"""Raw-tensor samples for the synthetic model."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.workloads.config import BOX_COLUMNS, FEATURE_SIZE, UniterConfig
from exeunt.engine.errors import ConfigError

Sample = dict[str, NDArray[Any]]  # raw tensors by name, without a sample axis
Lengths = Literal["fixed", "varying-text", "varying"]

SHORTEST_TEXT, FEWEST_REGIONS = 8, 10
PICTURES = 64  # different ones; samples beyond share their features, as questions share pictures


def draw_samples(
    config: UniterConfig, count: int, *, lengths: Lengths = "fixed", seed: int = 0
) -> list[Sample]:
    """Return random samples, each with words of its own.

    Args:
        config: the model's sizes.
        count: samples.
        lengths: `fixed`: every sample has `config.words` words and `config.regions` regions (28
            and 36, 64 tokens). `varying-text`: the words are uniform on 8 .. 28, the regions are 36
            (44 to 64 tokens, 54 on average). `varying`: the regions are uniform on 10 .. 36 as well
            (18 to 64 tokens, 41 on average). A smaller model's range begins at its own size.
        seed: of the samples.

    Raises:
        ConfigError: there is no such `lengths`.
    """
    if lengths not in get_args(Lengths):
        raise ConfigError(f"unknown lengths {lengths!r}: expected one of {get_args(Lengths)}")
    random = np.random.default_rng(seed)
    words = _sizes(random, SHORTEST_TEXT, config.words, count, lengths != "fixed")
    regions = _sizes(random, FEWEST_REGIONS, config.regions, count, lengths == "varying")
    pictures = [_picture(random, config.regions) for _ in range(min(count, PICTURES))]
    samples = []
    for place in range(count):
        features, boxes = pictures[place % len(pictures)]
        seen = int(regions[place])
        samples.append(
            {
                "input_ids": random.integers(1, config.vocab, words[place]),
                "attention_mask": np.ones(words[place], dtype=np.int64),
                "region_features": features[:seen],
                "region_boxes": boxes[:seen],
                "region_mask": np.ones(seen, dtype=np.int64),
            }
        )
    return samples


def _sizes(
    random: np.random.Generator, least: int, most: int, count: int, varying: bool
) -> NDArray[np.int64]:
    if not varying:
        return np.full(count, most)
    return random.integers(min(least, most), most, count, endpoint=True)


def _picture(
    random: np.random.Generator, regions: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return features f32[R, 2048], at least 0 as a detector's, and boxes f32[R, 7]."""
    features = np.maximum(random.standard_normal((regions, FEATURE_SIZE), dtype=np.float32), 0)
    corners = np.sort(random.random((2, 2, regions), dtype=np.float32), axis=0)
    (x1, y1), (x2, y2) = corners
    width, height = x2 - x1, y2 - y1
    boxes = np.stack([x1, y1, x2, y2, width, height, width * height], axis=1)
    assert boxes.shape == (regions, BOX_COLUMNS), "seven numbers a box"
    return features, boxes
