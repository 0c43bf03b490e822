"""Attention of fewer heads than the state's width holds: what pruning leaves of a layer's own."""

import torch
from torch import Tensor, nn

from exeunt.export.layers.vit import padding_bias


def mix(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None) -> Tensor:
    """Return the values f32[B, T, W] mixed by scaled dot-product attention.

    Args:
        query: f32[B, T, W], the heads side by side.
        key: f32[B, K, W].
        value: the same.
        heads: H, of W / H each.
        bias: f32, broadcast to the scores [B, H, T, K].
    """

    def split(projected: Tensor) -> Tensor:
        size = projected.shape[2] // heads
        return projected.reshape(len(projected), -1, heads, size).transpose(1, 2)

    scale = (query.shape[2] // heads) ** -0.5
    scores = split(query) @ split(key).transpose(-1, -2) * scale
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    return (weights @ split(value)).transpose(1, 2).flatten(2)


class _Projections(nn.Module):
    """What makes queries, keys and values of the heads that are left."""

    def __init__(self, query: nn.Linear, key: nn.Linear, value: nn.Linear, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.query, self.key, self.value = query, key, value


class NarrowSelfAttention(_Projections):
    """In place of `BertSelfAttention`."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return f32[B, T, W] of f32[B, T, D] and its mask f32[B, T]."""
        pair = self.key(hidden), self.value(hidden)
        return mix(self.query(hidden), *pair, self.num_heads, padding_bias(mask))


class NarrowCrossMixing(_Projections):
    """In place of `BertCrossMixing`."""

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return f32[B, T, W] of f32[B, T, D], the context f32[B, K, C] and its mask f32[B, K]."""
        bias = None if mask is None else padding_bias(mask)
        pair = self.key(context), self.value(context)
        return mix(self.query(hidden), *pair, self.num_heads, bias)


class NarrowVitAttention(_Projections):
    """In place of `VitAttention`."""

    def __init__(
        self, query: nn.Linear, key: nn.Linear, value: nn.Linear, out: nn.Linear, heads: int
    ) -> None:
        super().__init__(query, key, value, heads)
        self.out_proj = out

    def forward(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """Return f32[B, T, D]; `bias` is added to the scores [B, heads, T, T]."""
        pair = self.key(hidden), self.value(hidden)
        mixed = mix(self.query(hidden), *pair, self.num_heads, bias)
        attended: Tensor = self.out_proj(mixed)
        return attended
