"""Losses that make the exits of an encoder and a decoder good."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from exeunt.train.scenes.words import PAD_ID


def layer_wise_task_loss(logits: Sequence[Tensor], target: Tensor) -> Tensor:
    """Return the task loss of all given decoder layers, summed over the tokens.

    L = 1/N sum_i L_CE^(i), L_CE = -sum_t log P(y_t | y_<t, I, T). With the last layer alone it is
    the ordinary loss of a sequence-to-sequence model.

    Args:
        logits: of each decoder layer f32[R, T, V].
        target: i64[R, T], PAD_ID at padding.

    Reference: MuE, Eq. (12), (13)
    """
    wanted = target.flatten()
    terms = [
        F.cross_entropy(z.float().flatten(0, 1), wanted, ignore_index=PAD_ID, reduction="sum")
        for z in logits
    ]
    return torch.stack(terms).mean()


def cosine(before: Tensor, after: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the cosine of two states of each row, flattened over its valid tokens: f32[B].

    Args:
        before: f32[B, T, D].
        after: the same, a layer later.
        mask: [B, T], 0 at padding; by default all tokens are valid.

    Reference: MuE, Eq. (7)-(9), per row
    """
    weight = torch.ones_like(after[..., :1]) if mask is None else mask[..., None]
    first, second = before.float() * weight, after.float() * weight
    product = (first * second).sum(dim=(1, 2))
    norms = first.square().sum(dim=(1, 2)) * second.square().sum(dim=(1, 2))
    return product / norms.clamp(min=1e-12).sqrt()


def cosines(states: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """Return the cosine of each layer's output with its input, per row: f32[L, B].

    Args:
        states: the embedding, then after every layer, f32[B, T, D].
        mask: f32[B, T], 0 at padding; by default all tokens are valid.
    """
    pairs = itertools.pairwise(states)
    return torch.stack([cosine(before, after, mask) for before, after in pairs])


def saturation_loss(similarity: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return how far successive layers' states are from each other, summed over the rows.

    1/N sum_i (1 - cos(h_i, h_{i-1})): a layer that changes nothing costs nothing, so that layers
    that a row does not need come to leave it alone. Not part of MuE, which relies on saturation
    that it finds in a pretrained model.

    Args:
        similarity: f32[L, B], the cosines of each layer's output with its input.
        weight: f32[B], of each row; by default 1.
    """
    moved = (1.0 - similarity).mean(dim=0)
    return (moved if weight is None else moved * weight).sum()
