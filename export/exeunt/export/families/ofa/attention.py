"""Multi-head attention whose scores take a bias, with NormFormer's scale for each head."""

import torch
from torch import Tensor, nn

from exeunt.export.families.ofa.config import OfaConfig

# Finite, so that a row with every token masked still gives numbers, and bf16 holds it.
MASKED = -1e4


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Return f32[B, H, T, W / H] of `tokens` f32[B, T, W]."""
    batch, length, width = tokens.shape
    return tokens.view(batch, length, heads, width // heads).transpose(1, 2)


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Return the values mixed by softmax(query key^T + bias).

    Args:
        query: f32[B, H, T, d], scaled.
        key: f32[B, H, N, d].
        value: f32[B, H, N, e].
        bias: f32, broadcast to [B, H, T, N].
        valid: bool, broadcast alike; where it is false the key may be any finite numbers.

    Returns:
        f32[B, H, T, e].
    """
    scores = query @ key.transpose(-1, -2) + bias
    if valid is not None:
        scores = torch.where(valid, scores, MASKED)
    return torch.softmax(scores, dim=-1) @ value


class Attention(nn.Module):
    """The projections of an attention block."""

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        width = config.hidden
        self.num_heads = config.heads
        self.scale = config.attention_scale
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.c_attn = nn.Parameter(torch.ones(config.heads)) if config.scale_heads else None
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def query(self, tokens: Tensor) -> Tensor:
        """Return scaled queries f32[B, H, T, W / H] of `tokens` f32[B, T, W]."""
        return split_heads(self.q_proj(tokens) * self.scale, self.num_heads)

    def merge(self, mixed: Tensor) -> Tensor:
        """Return f32[B, T, W] of what the heads mixed, f32[B, H, T, W / H]."""
        if self.c_attn is not None:
            mixed = mixed * self.c_attn[:, None, None]
        batch, heads, length, width = mixed.shape
        tokens: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, length, heads * width))
        return tokens
