"""BERT's cross-attention, and the layer that has one: of BLIP, and of X-VLM's fusion lane.

The parameters are named as in those checkpoints: `crossattention.self.query.weight`, and so on.
"""

import torch
from torch import Tensor, nn

from exeunt.export.layers.bert import MASKED, BertAttention, BertIntermediate, BertOutput


class BertCrossMixing(nn.Module):
    """Multi-head attention of a sequence to another, before its output projection.

    Args:
        hidden: the width D of the sequence that looks, a multiple of `heads`.
        heads: attention heads.
        context: the width C of the sequence that is looked at; D by default.
    """

    def __init__(self, hidden: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden size {hidden} is not a multiple of {heads} heads")
        width = hidden if context is None else context
        self.num_heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(width, hidden)
        self.value = nn.Linear(width, hidden)

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mixed values f32[B, T, D]; see `BertCrossAttention.forward`."""
        batch, tokens, width = hidden.shape
        size = width // self.num_heads

        def split(projected: Tensor) -> Tensor:
            places = projected.shape[1]
            return projected.view(batch, places, self.num_heads, size).transpose(1, 2)

        query, key = split(self.query(hidden)), split(self.key(context))
        scores = query @ key.transpose(-1, -2) * size**-0.5  # [B, heads, T, K]
        if mask is not None:
            scores = scores + ((1.0 - mask) * MASKED)[:, None, None, :]
        mixed = torch.softmax(scores, dim=-1) @ split(self.value(context))
        return mixed.transpose(1, 2).reshape(batch, tokens, width)


class BertCrossAttention(nn.Module):
    """Cross-attention with its output projection; see `BertCrossMixing` for the arguments."""

    def __init__(self, hidden: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        self.self = BertCrossMixing(hidden, heads, context)
        self.output = BertOutput(hidden, hidden)

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return f32[B, T, D].

        Args:
            hidden: f32[B, T, D].
            context: f32[B, K, C], what is looked at.
            mask: f32[B, K], 1 at its valid tokens and 0 at padding; all are valid without it.
        """
        attended: Tensor = self.output(self.self(hidden, context, mask), hidden)
        return attended


class BertCrossLayer(nn.Module):
    """One post-LN layer: self-attention, cross-attention, then a feed-forward network.

    Args:
        hidden: the state's width D, a multiple of `heads`.
        heads: attention heads.
        ffn: the feed-forward width.
        context: the width C of what it looks at; D by default.
    """

    def __init__(self, hidden: int, heads: int, ffn: int, context: int | None = None) -> None:
        super().__init__()
        self.attention = BertAttention(hidden, heads)
        self.crossattention = BertCrossAttention(hidden, heads, context)
        self.intermediate = BertIntermediate(hidden, ffn)
        self.output = BertOutput(ffn, hidden)

    def forward(
        self, hidden: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor | None = None
    ) -> Tensor:
        """Return the next state.

        Args:
            hidden: f32[B, T, D], the state after the layer before.
            mask: f32[B, T], 1 at valid tokens and 0 at padding.
            context: f32[B, K, C], what cross-attention looks at.
            context_mask: f32[B, K], its valid tokens; all of them without it.

        Returns:
            f32[B, T, D].
        """
        attended = self.attention(hidden, mask)
        crossed = self.crossattention(attended, context, context_mask)
        following: Tensor = self.output(self.intermediate(crossed), crossed)
        return following
