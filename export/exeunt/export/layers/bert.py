"""BERT's encoder layer and the exit head that reads its first token.

The parameters are named as in the checkpoints of UNITER, VILLA, Oscar, VL-BERT, VisualBERT and the
text lane of X-VLM: `attention.self.query.weight`, `attention.output.LayerNorm.bias`, and so on.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-12  # of every LayerNorm
# BERT's own, and finite: a row with every token masked still gives numbers, and bf16 holds it.
MASKED = -1e4


class BertSelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself, before its output projection."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden size {hidden} is not a multiple of {heads} heads")
        self.num_heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the mixed values f32[B, T, D]; see `BertLayer.forward`."""
        batch, tokens, width = hidden.shape
        size = width // self.num_heads

        def split(projected: Tensor) -> Tensor:
            return projected.view(batch, tokens, self.num_heads, size).transpose(1, 2)

        query, key = split(self.query(hidden)), split(self.key(hidden))  # [B, heads, T, D / heads]
        bias = ((1.0 - mask) * MASKED)[:, None, None, :]  # [B, 1, 1, T]
        weights = torch.softmax(query @ key.transpose(-1, -2) * size**-0.5 + bias, dim=-1)
        mixed = weights @ split(self.value(hidden))
        return mixed.transpose(1, 2).reshape(batch, tokens, width)


class BertOutput(nn.Module):
    """A linear map whose result is added to what came before, then normed (post-LN)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=EPS)

    def forward(self, update: Tensor, residual: Tensor) -> Tensor:
        """Return f32[B, T, D] of `update` f32[B, T, W] and `residual` f32[B, T, D]."""
        normed: Tensor = self.LayerNorm(residual + self.dense(update))
        return normed


class BertAttention(nn.Module):
    """Self-attention with its output projection."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.self = BertSelfAttention(hidden, heads)
        self.output = BertOutput(hidden, hidden)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return f32[B, T, D]; see `BertLayer.forward`."""
        attended: Tensor = self.output(self.self(hidden, mask), hidden)
        return attended


class BertIntermediate(nn.Module):
    """The widening half of the feed-forward network, with the exact (erf) GELU."""

    def __init__(self, hidden: int, ffn: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, ffn)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f32[B, T, F] of f32[B, T, D]."""
        return F.gelu(self.dense(hidden))


class BertLayer(nn.Module):
    """One post-LN encoder layer: attention, then a feed-forward network.

    Args:
        hidden: the state's width D, a multiple of `heads`.
        heads: attention heads.
        ffn: the feed-forward width; 4 D by default.
    """

    def __init__(self, hidden: int, heads: int, ffn: int | None = None) -> None:
        super().__init__()
        width = 4 * hidden if ffn is None else ffn
        self.attention = BertAttention(hidden, heads)
        self.intermediate = BertIntermediate(hidden, width)
        self.output = BertOutput(width, hidden)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the next state.

        Args:
            hidden: f32[B, T, D], the state after the layer before.
            mask: f32[B, T], 1 at valid tokens and 0 at padding.

        Returns:
            f32[B, T, D].
        """
        attended = self.attention(hidden, mask)
        following: Tensor = self.output(self.intermediate(attended), attended)
        return following


class BertPooler(nn.Module):
    """A dense layer with tanh on the first token."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f32[B, D] of the state `hidden` f32[B, T, D]."""
        return torch.tanh(self.dense(hidden[:, 0]))


class BertHead(nn.Module):
    """The exit classifier of one layer: the pooler, and a linear map to the labels.

    The pooled first token stands for h_[CLS], as in UNITER-MSD's checkpoints.

    Reference: UNITER-MSD, Eq. (2)
    """

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.pooler = BertPooler(hidden)
        self.classifier = nn.Linear(hidden, labels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, C] of the state `hidden` f32[B, T, D]."""
        logits: Tensor = self.classifier(self.pooler(hidden))
        return logits
