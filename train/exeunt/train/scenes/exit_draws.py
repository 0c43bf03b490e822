"""Exits drawn at random in training, so that what follows meets states of every depth.

MuE trains with full depth alone and relies on saturation. Here a share of the rows leaves its lanes
early already in training: an addition of ours, off at share 0.
"""

import numpy as np
import torch
from torch import Tensor


def draw_lane_exits(rng: np.random.Generator, num_rows: int, depth: int, share: float) -> Tensor:
    """Draw the layers i64[R], from 1, after which rows leave an encoder lane.

    With probability `share` a row leaves early, at a layer uniform over those before the last.
    """
    early = rng.random(num_rows) < share
    drawn = rng.integers(1, max(2, depth), size=num_rows)
    return torch.from_numpy(np.where(early, drawn, depth))


def draw_token_exits(
    rng: np.random.Generator, num_rows: int, num_tokens: int, depth: int, share: float
) -> Tensor:
    """Draw the layers i64[R, T], from 1, after which tokens leave the decoder.

    With probability `share` a row's tokens leave at layers uniform over all, each for itself.
    """
    early = rng.random((num_rows, 1)) < share
    drawn = rng.integers(1, depth + 1, size=(num_rows, num_tokens))
    return torch.from_numpy(np.where(early, drawn, depth))
