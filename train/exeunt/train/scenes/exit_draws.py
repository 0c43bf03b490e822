"""Exits in training: a share of the rows leaves by cosine, at a threshold drawn for each step.

MuE trains with full depth alone and relies on saturation. Here what follows a lane meets states of
every depth already in training, and rows that saturate early leave early, as in inference: an
addition of ours, off at share 0.
"""

import numpy as np
import torch
from torch import Tensor

from exeunt.train.scenes.exits import LaneRule


def draw_threshold(rng: np.random.Generator, cosines: Tensor) -> float:
    """Draw a threshold: a random quantile of the cosines f32[L, B] of all layers but the last."""
    before_last = cosines.detach()[:-1].flatten()
    if not len(before_last):
        return 1.0
    return float(torch.quantile(before_last.float(), float(rng.random())))


def draw_lane_exits(rng: np.random.Generator, cosines: Tensor, share: float) -> Tensor:
    """Return the layers i64[B], from 1, after which rows leave an encoder lane.

    With probability `share` a row follows the cosine rule at the drawn threshold, else it stays to
    the last layer.

    Args:
        rng: draws the threshold and the rows.
        cosines: f32[L, B], of each layer's output with its input.
        share: of the rows, 0 to 1.
    """
    depth, num_rows = cosines.shape
    by_rule = LaneRule.over(draw_threshold(rng, cosines), depth).exits(cosines.detach())
    chosen = torch.from_numpy(rng.random(num_rows) < share)
    return torch.where(chosen, by_rule, depth)


class TokenDraw:
    """Chooses the tokens that leave the decoder after each layer.

    Of the tokens of a share of the rows, those leave whose cosine is above a quantile of their
    layer's; the quantile is drawn for each step.
    """

    def __init__(self, rng: np.random.Generator, valid: Tensor, share: float) -> None:
        rows = torch.from_numpy(rng.random((len(valid), 1)) < share)
        self._eligible = valid & rows
        self._quantile = float(rng.random())

    def __call__(self, similarity: Tensor, left: Tensor) -> Tensor:
        """Return the tokens bool[R, S] that leave, of cosines f32[R, S]."""
        staying = self._eligible & ~left
        if not bool(staying.any()):
            return staying
        threshold = torch.quantile(similarity[staying].float(), self._quantile)
        return staying & (similarity > threshold)
