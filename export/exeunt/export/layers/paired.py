"""Two sequences that attend to each other, pooled by attention: the head of pairs of images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.layers.bert import MASKED


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence to another, with torch's own parameter names.

    Args:
        hidden: the width D, a multiple of `heads`.
        heads: attention heads.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden size {hidden} is not a multiple of {heads} heads")
        self.num_heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * hidden))
        self.out_proj = nn.Linear(hidden, hidden)

    def forward(self, query: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Return f32[B, T, D].

        Args:
            query: f32[B, T, D].
            other: f32[B, S, D], what is attended to.
            mask: f32[B, S], 1 at its valid tokens.
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        batch, tokens, width = query.shape
        size = width // self.num_heads

        def split(sequence: Tensor, place: int) -> Tensor:
            projected = F.linear(sequence, weights[place], biases[place])
            return projected.view(batch, -1, self.num_heads, size).transpose(1, 2)

        scores = split(query, 0) @ split(other, 1).transpose(-1, -2) * size**-0.5
        bias = ((1.0 - mask) * MASKED)[:, None, None, :]
        mixed = torch.softmax(scores + bias, dim=-1) @ split(other, 2)  # [B, heads, T, D / heads]
        attended: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return attended


class AttentionPool(nn.Module):
    """The mean of a sequence's tokens, weighted by a score of each."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(hidden, 1), nn.ReLU())

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return f32[B, D] of f32[B, T, D] and its mask f32[B, T]."""
        scores = self.fc(hidden)[:, :, 0] + (1.0 - mask) * MASKED
        pooled: Tensor = (torch.softmax(scores, dim=1)[:, None, :] @ hidden)[:, 0]
        return pooled


class PairedAttentionHead(nn.Module):
    """Judge a pair of sequences: each attends to the other, both are pooled and classified.

    The parameters are named as in UNITER's checkpoints for NLVR2.

    Args:
        hidden: the width D.
        heads: attention heads.
        labels: classes C.
    """

    def __init__(self, hidden: int, heads: int, labels: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(hidden, heads)
        self.attn2 = CrossAttention(hidden, heads)
        self.fc = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU())
        self.attn_pool = AttentionPool(hidden)
        self.nlvr2_output = nn.Linear(2 * hidden, labels)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return logits f32[B, C] of the states f32[B, 2, T, D] and their masks f32[B, 2, T]."""
        left, right = hidden[:, 0], hidden[:, 1]
        left_mask, right_mask = mask[:, 0], mask[:, 1]
        to_right = self.attn1(left, right, right_mask)
        to_left = self.attn2(right, left, left_mask)
        left = self.attn_pool(self.fc(torch.cat([to_right, left], dim=-1)), left_mask)
        right = self.attn_pool(self.fc(torch.cat([to_left, right], dim=-1)), right_mask)
        logits: Tensor = self.nlvr2_output(torch.cat([left, right], dim=-1))
        return logits
