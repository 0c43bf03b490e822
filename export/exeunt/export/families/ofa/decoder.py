"""The decoder: layers with self- and cross-attention, over whole texts or a token at a time."""

import torch
from torch import Tensor, nn

from exeunt.export.families.ofa.attention import MASKED, Attention, attend, split_heads
from exeunt.export.families.ofa.config import OfaConfig
from exeunt.export.families.ofa.embedding import embedding, table_of, tables
from exeunt.export.families.ofa.feed_forward import FeedForwardLayer, normed, optional_norm
from exeunt.export.families.ofa.positions import token_bucket

Pair = tuple[Tensor, Tensor]


class DecoderLayer(FeedForwardLayer):
    """One pre-LN layer."""

    def __init__(self, config: OfaConfig) -> None:
        super().__init__(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.hidden)
        self.self_attn = Attention(config)
        self.self_attn_ln = optional_norm(config.hidden, config.scale_attn)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.hidden)
        self.encoder_attn = Attention(config)
        self.cross_attn_ln = optional_norm(config.hidden, config.scale_attn)

    def forward(
        self,
        hidden: Tensor,
        self_bias: Tensor,
        cross: Pair,
        cross_bias: Tensor,
        past: Pair | None = None,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, Pair]:
        """Return the next state, and the tokens' own keys and values.

        Args:
            hidden: f32[B, S, D].
            self_bias: f32, broadcast to [B, H, S, P + S]: positions, and what hides later tokens.
            cross: the context's keys and values, f32[B, C, W] each.
            cross_bias: f32, broadcast to [B, H, S, C]: positions, and what hides padding.
            past: keys and values f32[B, P, W] of earlier tokens, put before the own.
            valid: bool, broadcast to [B, H, S, P + S], which of them are there; all by default.

        Returns:
            f32[B, S, D], and keys and values f32[B, S, W].
        """
        attention, heads = self.self_attn, self.self_attn.num_heads
        normal = self.self_attn_layer_norm(hidden)
        own = (attention.k_proj(normal), attention.v_proj(normal))
        key, value = own
        if past is not None:
            key, value = (torch.cat(both, dim=1) for both in zip(past, own, strict=True))
        key, value = (split_heads(part, heads) for part in (key, value))
        mixed = attend(attention.query(normal), key, value, self_bias, valid)
        hidden = hidden + self.dropout(normed(self.self_attn_ln, attention.merge(mixed)))
        attention = self.encoder_attn
        query = attention.query(self.encoder_attn_layer_norm(hidden))
        key, value = (split_heads(part, heads) for part in cross)
        mixed = attend(query, key, value, cross_bias)
        hidden = hidden + self.dropout(normed(self.cross_attn_ln, attention.merge(mixed)))
        return self.feed_forward(hidden), own

    def cross(self, context: Tensor) -> Pair:
        """Return keys and values f32[B, C, W] of the context f32[B, C, D]."""
        return self.encoder_attn.k_proj(context), self.encoder_attn.v_proj(context)

    def propagate(self, hidden: Tensor) -> Pair:
        """Return the keys and values f32[B, S, W] that this layer would have made of a state.

        Of a token that has left below this layer, whose state would have come here unchanged.
        """
        normal = self.self_attn_layer_norm(hidden)
        return self.self_attn.k_proj(normal), self.self_attn.v_proj(normal)


class Decoder(nn.Module):
    """Embeddings, layers and the output projection, under the official names."""

    def __init__(self, config: OfaConfig, embed_tokens: nn.Embedding) -> None:
        super().__init__()
        width = config.hidden
        self.config = config
        self.embed_tokens = embed_tokens
        self.layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = embedding(config.max_target_positions + 2, width)
        self.pos_ln = nn.LayerNorm(width)
        self.self_pos_q_linear = nn.Linear(width, width)
        self.self_pos_k_linear = nn.Linear(width, width)
        self.cross_pos_q_linear = nn.Linear(width, width)
        self.cross_pos_k_linear = nn.Linear(width, width)
        self.layers = nn.ModuleList([DecoderLayer(config) for _ in range(config.decoder_layers)])
        self.layer_norm = nn.LayerNorm(width)
        self.output_projection = nn.Linear(width, config.vocab, bias=False)
        self.output_projection.weight = embed_tokens.weight
        distances = 2 * config.token_bucket_size - 1
        self.token_rel_pos_table_list = tables(distances, config.heads, config.decoder_layers)
        self.embed_scale = width**0.5 if config.scale_embedding else 1.0
        self.dropout = nn.Dropout(config.dropout)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the state f32[B, S, D] of `tokens` i64[B, S]; positions are in the biases."""
        hidden = self.layernorm_embedding(self.embed_scale * self.embed_tokens(tokens))
        dropped: Tensor = self.dropout(hidden)
        return dropped

    def self_bias(self, layer: int, steps: int) -> Tensor:
        """Return what positions add to self-attention, f32[H, S, S]; layers count from 1.

        The row of a query at step s has later columns too, which `causal` hides.
        """
        positions = self._positions(steps)
        bias = self._product(self.self_pos_q_linear(positions), self.self_pos_k_linear(positions))
        places = torch.arange(steps, device=positions.device)
        buckets = token_bucket(places[:, None] - places[None, :], self.config.token_bucket_size)
        relative = table_of(self.token_rel_pos_table_list, layer)[buckets]
        return bias + relative.permute(2, 0, 1)

    def cross_bias(self, source: Tensor, steps: int) -> Tensor:
        """Return what positions add to cross-attention, f32[H, S, C].

        Args:
            source: f32[C, D], the context's positions, through the encoder's norms.
            steps: S.
        """
        query = self.cross_pos_q_linear(self._positions(steps))
        return self._product(query, self.cross_pos_k_linear(source))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits f32[..., V] of the state f32[..., D] after any layer."""
        logits: Tensor = self.output_projection(self.layer_norm(hidden))
        return logits

    def _positions(self, steps: int) -> Tensor:
        positions: Tensor = self.pos_ln(self.embed_positions.weight[:steps])
        return positions

    def _product(self, query: Tensor, key: Tensor) -> Tensor:
        heads = self.config.heads
        query = split_heads(query[None] * self.config.attention_scale, heads)[0]
        return query @ split_heads(key[None], heads)[0].transpose(-1, -2)


def causal(steps: int, like: Tensor) -> Tensor:
    """Return f32[S, S] with `MASKED` where a token would see a later one."""
    return torch.full((steps, steps), MASKED, dtype=like.dtype, device=like.device).triu(1)
