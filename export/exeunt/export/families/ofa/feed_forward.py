"""The second half of every layer: a feed-forward network with NormFormer's norm inside."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.families.ofa.config import OfaConfig


def optional_norm(width: int, wanted: bool) -> nn.LayerNorm | None:
    """Return a norm where the config asks for one."""
    return nn.LayerNorm(width) if wanted else None


def normed(norm: nn.LayerNorm | None, tokens: Tensor) -> Tensor:
    """Return the tokens through a norm that may not be there."""
    return tokens if norm is None else norm(tokens)


class FeedForwardLayer(nn.Module):
    """What encoder and decoder layers share; they add their attention.

    Its parameters stand beside those of the attention, since official keys have no level for it.
    """

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        self.final_layer_norm = nn.LayerNorm(config.hidden)
        self.fc1 = nn.Linear(config.hidden, config.ffn)
        self.ffn_layernorm = optional_norm(config.ffn, config.scale_fc)
        self.fc2 = nn.Linear(config.ffn, config.hidden)
        scaled = config.scale_resids
        self.w_resid = nn.Parameter(torch.ones(config.hidden)) if scaled else None
        self.dropout = nn.Dropout(config.dropout)

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Return the state f32[B, T, D] after the feed-forward half of a layer."""
        inner = F.gelu(self.fc1(self.final_layer_norm(hidden)))
        update: Tensor = self.dropout(self.fc2(normed(self.ffn_layernorm, inner)))
        return update + (hidden if self.w_resid is None else self.w_resid * hidden)
