"""The pre-LN encoder layer of vision transformers: of CLIP, BLIP and X-VLM's image lane.

The parameters are named as in CLIP's checkpoints: `self_attn.q_proj.weight`, `layer_norm1.bias`,
`mlp.fc1.weight`, and so on. BLIP's differ in attention alone (`fused`); ViLT's have BERT's names.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.layers.bert import MASKED

Activation = Literal["gelu", "quick_gelu"]


def quick_gelu(values: Tensor) -> Tensor:
    """Return x sigmoid(1.702 x), the approximation of GELU that OpenAI's CLIP was trained with."""
    return values * torch.sigmoid(1.702 * values)


def padding_bias(mask: Tensor) -> Tensor:
    """Return what attention adds to its scores, f32[B, 1, 1, T], of a mask f32[B, T]."""
    return ((1.0 - mask) * MASKED)[:, None, None, :]


def causal_bias(tokens: int, like: Tensor) -> Tensor:
    """Return f32[1, 1, T, T] that hides later tokens, on the device of `like`."""
    places = torch.arange(tokens, device=like.device)
    return ((places[None, :] > places[:, None]).to(like.dtype) * MASKED)[None, None]


class VitAttention(nn.Module):
    """Multi-head self-attention with its output projection."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden size {hidden} is not a multiple of {heads} heads")
        self.num_heads = heads
        self.q_proj = nn.Linear(hidden, hidden)
        self.k_proj = nn.Linear(hidden, hidden)
        self.v_proj = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, hidden)

    def forward(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """Return f32[B, T, D]; `bias` is added to the scores [B, heads, T, T]."""
        query, key, value = self.q_proj(hidden), self.k_proj(hidden), self.v_proj(hidden)
        attended: Tensor = self.out_proj(_mixed(query, key, value, self.num_heads, bias))
        return attended


class FusedVitAttention(nn.Module):
    """The same with one projection to queries, keys and values, as BLIP has it."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden size {hidden} is not a multiple of {heads} heads")
        self.num_heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.projection = nn.Linear(hidden, hidden)

    def forward(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """Return f32[B, T, D]; `bias` is added to the scores [B, heads, T, T]."""
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        attended: Tensor = self.projection(_mixed(query, key, value, self.num_heads, bias))
        return attended


def _mixed(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None) -> Tensor:
    """Return the values f32[B, T, D] mixed by scaled dot-product attention."""
    batch, tokens, width = query.shape
    size = width // heads

    def split(projected: Tensor) -> Tensor:
        return projected.reshape(batch, tokens, heads, size).transpose(1, 2)

    scores = split(query) @ split(key).transpose(-1, -2) * size**-0.5  # [B, heads, T, T]
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    return (weights @ split(value)).transpose(1, 2).reshape(batch, tokens, width)


class VitMlp(nn.Module):
    """The feed-forward network."""

    def __init__(self, hidden: int, ffn: int, activation: Activation) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, ffn)
        self.fc2 = nn.Linear(ffn, hidden)
        self.activation = quick_gelu if activation == "quick_gelu" else F.gelu

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f32[B, T, D] of f32[B, T, D]."""
        update: Tensor = self.fc2(self.activation(self.fc1(hidden)))
        return update


class VitLayer(nn.Module):
    """One pre-LN layer: attention, then a feed-forward network, each added to what came before.

    Args:
        hidden: the state's width D, a multiple of `heads`.
        heads: attention heads.
        ffn: the feed-forward width.
        eps: of both norms.
        activation: of the feed-forward network.
        causal: whether a token sees none of those after it.
        fused: whether one projection makes queries, keys and values.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        ffn: int,
        *,
        eps: float = 1e-5,
        activation: Activation = "gelu",
        causal: bool = False,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.layer_norm1 = nn.LayerNorm(hidden, eps=eps)
        self.self_attn = (FusedVitAttention if fused else VitAttention)(hidden, heads)
        self.layer_norm2 = nn.LayerNorm(hidden, eps=eps)
        self.mlp = VitMlp(hidden, ffn, activation)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the next state.

        Args:
            hidden: f32[B, T, D], the state after the layer before.
            mask: f32[B, T], 1 at valid tokens and 0 at padding; all are valid without it.

        Returns:
            f32[B, T, D].
        """
        bias = None if mask is None else padding_bias(mask)
        if self.causal:
            ahead = causal_bias(hidden.shape[1], hidden)
            bias = ahead if bias is None else bias + ahead
        hidden = hidden + self.self_attn(self.layer_norm1(hidden), bias)
        following: Tensor = hidden + self.mlp(self.layer_norm2(hidden))
        return following
