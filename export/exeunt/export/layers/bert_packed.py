"""BERT's encoder layer on packed tokens: only attention sees padding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.layers.bert import MASKED, BertLayer


class PackedBertLayer(nn.Module):
    """The same layer, with the same parameters, on tokens [N, D] of rows that differ in length.

    Queries, keys and values are projected token by token, brought to a padded view for attention
    alone, and back.

    Args:
        layer: whose parameters it has.
    """

    def __init__(self, layer: BertLayer) -> None:
        super().__init__()
        self.attention = layer.attention
        self.intermediate = layer.intermediate
        self.output = layer.output

    def forward(self, hidden: Tensor, gather: Tensor, mask: Tensor, scatter: Tensor) -> Tensor:
        """Return the next state.

        Args:
            hidden: f32[N, D], the tokens of all rows side by side.
            gather: i64[B, T], the token at each place of the padded view.
            mask: f32[B, T], 1 at valid places and 0 beside a row's end.
            scatter: i64[N], each token's place in B * T.

        Returns:
            f32[N, D].
        """
        projections = self.attention.self
        batch, tokens = gather.shape
        width = hidden.shape[1]
        size = width // projections.num_heads

        def split(projected: Tensor) -> Tensor:
            padded = F.embedding(gather, projected)
            return padded.view(batch, tokens, projections.num_heads, size).transpose(1, 2)

        query, key = split(projections.query(hidden)), split(projections.key(hidden))
        bias = ((1.0 - mask) * MASKED)[:, None, None, :]  # [B, 1, 1, T]
        weights = torch.softmax(query @ key.transpose(-1, -2) * size**-0.5 + bias, dim=-1)
        mixed = weights @ split(projections.value(hidden))  # [B, heads, T, D / heads]
        flat = mixed.transpose(1, 2).reshape(batch * tokens, width)
        attended = self.attention.output(F.embedding(scatter, flat), hidden)
        following: Tensor = self.output(self.intermediate(attended), attended)
        return following
