"""The encoder: embeddings of both modalities, and the layers that both lanes walk."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.families.ofa.attention import MASKED, Attention, attend, split_heads
from exeunt.export.families.ofa.config import PAD, OfaConfig
from exeunt.export.families.ofa.embedding import embedding, table_of, tables
from exeunt.export.families.ofa.feed_forward import FeedForwardLayer, normed, optional_norm
from exeunt.export.families.ofa.positions import RelativePositions
from exeunt.export.families.ofa.stem import Stem


class LaneTokens(NamedTuple):
    """What a lane's layers read.

    hidden: f32[B, T, D]. mask: f32[B, T], 1 at valid tokens. pos_query, pos_key: f32[B, T, D], the
    absolute positions, projected; their product by head is added to the scores. query_place,
    key_place: i64[B, T], whose difference is a pair's row in a layer's table of relative biases.
    """

    hidden: Tensor
    mask: Tensor
    pos_query: Tensor
    pos_key: Tensor
    query_place: Tensor
    key_place: Tensor


class Places(NamedTuple):
    """Where a lane's tokens stand, the same for all rows: `LaneTokens` without the batch axis."""

    pos_query: Tensor
    pos_key: Tensor
    query_place: Tensor
    key_place: Tensor

    def first(self, length: int) -> "Places":
        """Return the places of the first tokens."""
        return Places(*(part[:length] for part in self))

    def of(self, hidden: Tensor, mask: Tensor) -> LaneTokens:
        """Return a batch's tokens at these places."""
        rows = hidden.shape[0]
        return LaneTokens(hidden, mask, *(part.expand(rows, *part.shape) for part in self))


class EncoderLayer(FeedForwardLayer):
    """One pre-LN layer, the same for image and text."""

    def __init__(self, config: OfaConfig) -> None:
        super().__init__(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.hidden)
        self.self_attn = Attention(config)
        self.attn_ln = optional_norm(config.hidden, config.scale_attn)

    def forward(self, tokens: LaneTokens, biases: Tensor) -> Tensor:
        """Return the next state f32[B, T, D].

        Args:
            tokens: of the lane.
            biases: f32[rows, H], the layer's table of relative positions.
        """
        attention = self.self_attn
        heads = attention.num_heads
        normal = self.self_attn_layer_norm(tokens.hidden)
        # Content and position in one product: q k^T + p r^T = [q p] [k r]^T.
        query = torch.cat([attention.query(normal), split_heads(tokens.pos_query, heads)], dim=-1)
        key = torch.cat(
            [split_heads(attention.k_proj(normal), heads), split_heads(tokens.pos_key, heads)],
            dim=-1,
        )
        value = split_heads(attention.v_proj(normal), heads)
        pairs = tokens.query_place[:, :, None] - tokens.key_place[:, None, :]  # [B, T, T]
        bias = F.embedding(pairs, biases).permute(0, 3, 1, 2)
        bias = bias + ((1.0 - tokens.mask) * MASKED)[:, None, None, :]
        mixed = attention.merge(attend(query, key, value, bias))
        update = self.dropout(normed(self.attn_ln, mixed))
        return self.feed_forward(tokens.hidden + update)


class Encoder(nn.Module):
    """Embeddings, layers and the final norm, under the official names."""

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        width = config.hidden
        self.config = config
        self.relative = RelativePositions(config)
        self.embed_tokens = embedding(config.vocab, width, padding=PAD)
        self.embed_images = Stem(config)
        self.image_proj = nn.Linear(self.embed_images.channels, width)
        self.type_embedding = embedding(2, width)
        self.layernorm_embedding = nn.LayerNorm(width)
        self.patch_layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = embedding(config.max_source_positions + 2, width)
        self.embed_image_positions = embedding(config.image_bucket_size**2 + 1, width)
        self.pos_ln = nn.LayerNorm(width)
        self.image_pos_ln = nn.LayerNorm(width)
        self.pos_q_linear = nn.Linear(width, width)
        self.pos_k_linear = nn.Linear(width, width)
        self.layers = nn.ModuleList([EncoderLayer(config) for _ in range(config.encoder_layers)])
        self.layer_norm = nn.LayerNorm(width)
        distances = 2 * config.token_bucket_size - 1
        offsets = (2 * config.image_bucket_size - 1) ** 2 + 3
        layers = config.encoder_layers
        self.token_rel_pos_table_list = tables(distances, config.heads, layers)
        self.image_rel_pos_table_list = tables(offsets, config.heads, layers)
        self.embed_scale = width**0.5 if config.scale_embedding else 1.0
        self.dropout = nn.Dropout(config.dropout)
        nn.init.xavier_uniform_(self.image_proj.weight)
        nn.init.zeros_(self.image_proj.bias)

    def embed_text(self, src_tokens: Tensor, attention_mask: Tensor) -> LaneTokens:
        """Embed a text; see `text_state` for the arguments."""
        places = self.text_places(src_tokens.shape[1])
        return places.of(*self.text_state(src_tokens, attention_mask))

    def embed_image(self, patch_images: Tensor) -> LaneTokens:
        """Embed images f32[B, 3, H, W], every patch of which is valid."""
        return self.image_places().of(*self.image_state(patch_images))

    def text_state(self, src_tokens: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return a text's first state f32[B, T, D] and the mask f32[B, T] of its valid tokens.

        Args:
            src_tokens: i64[B, T], T at most `max_source_length`.
            attention_mask: i64[B, T], 0 at padding; the padding id is padding as well.
        """
        valid = ((attention_mask != 0) & (src_tokens != PAD)).to(self.pos_ln.weight.dtype)
        hidden = self.embed_scale * self.embed_tokens(src_tokens) + self.type_embedding.weight[0]
        return self.dropout(self.layernorm_embedding(hidden)) * valid[:, :, None], valid

    def image_state(self, patch_images: Tensor) -> tuple[Tensor, Tensor]:
        """Return an image's first state f32[B, N, D] and its mask f32[B, N], all valid."""
        features = self.image_proj(self.embed_images(patch_images))
        hidden = self.embed_scale * features + self.type_embedding.weight[1]
        hidden = self.dropout(self.patch_layernorm_embedding(hidden))
        return hidden, torch.ones_like(hidden[:, :, 0])

    def text_places(self, length: int) -> Places:
        """Return the places of a text's tokens."""
        query, key = (places[:length] for places in self.relative.text())
        return self._places(self.text_positions(length), query, key)

    def image_places(self) -> Places:
        """Return the places of an image's tokens."""
        return self._places(self.image_positions(), *self.relative.image())

    def text_positions(self, length: int) -> Tensor:
        """Return the positions f32[T, D] of a text, through their norm."""
        positions: Tensor = self.pos_ln(self.embed_positions.weight[:length])
        return positions

    def image_positions(self) -> Tensor:
        """Return the positions f32[N, D] of an image's tokens, through their norm."""
        line = torch.arange(self.config.grid, device=self.pos_ln.weight.device)
        places = line[:, None] * self.config.image_bucket_size + line[None, :] + 1
        positions: Tensor = self.image_pos_ln(self.embed_image_positions(places.flatten()))
        return positions

    def biases(self, layer: int) -> Tensor:
        """Return a layer's table f32[rows, H] of relative biases; layers count from 1."""
        tokens = table_of(self.token_rel_pos_table_list, layer)
        patches = table_of(self.image_rel_pos_table_list, layer)
        return self.relative.table(tokens, patches)

    def walk(self, tokens: LaneTokens) -> list[Tensor]:
        """Return the states f32[B, T, D] of a lane: its embedding, then after every layer."""
        states = [tokens.hidden]
        for place, layer in enumerate(self.layers, 1):
            states.append(layer(tokens._replace(hidden=states[-1]), self.biases(place)))
        return states

    def join(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the context f32[B, N + T, D] of both lanes' last states."""
        context: Tensor = self.layer_norm(torch.cat([image, text], dim=1))
        return context

    def _places(self, positions: Tensor, query: Tensor, key: Tensor) -> Places:
        pos_query = self.pos_q_linear(positions) * self.config.attention_scale
        device = positions.device
        return Places(pos_query, self.pos_k_linear(positions), query.to(device), key.to(device))
