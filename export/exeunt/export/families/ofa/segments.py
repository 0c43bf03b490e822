"""The model's parts as modules that can be traced: tensors in, tensors out.

What all rows share (positions, tables of biases) becomes a constant of the graph.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.families.ofa.attention import MASKED
from exeunt.export.families.ofa.decoder import Decoder, DecoderLayer
from exeunt.export.families.ofa.encoder import Encoder, EncoderLayer, LaneTokens, Places
from exeunt.export.families.ofa.model import OfaModel


class Entry(nn.Module):
    """A lane's entry, with the places of its tokens as constants."""

    def __init__(self, encoder: Encoder, places: Places) -> None:
        super().__init__()
        self.encoder = encoder
        for name, part in places._asdict().items():
            self.register_buffer(f"all_{name}", part.detach())  # outputs have the bare names

    @property
    def places(self) -> Places:
        """The places of as many tokens as the lane has at most."""
        return Places(*(cast(Tensor, getattr(self, f"all_{name}")) for name in Places._fields))


class ImageEntry(Entry):
    """The image lane's entry."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder, encoder.image_places())

    def forward(self, patch_images: Tensor) -> tuple[Tensor, ...]:
        """Return the fields of `LaneTokens`, of f32[B, 3, H, W]."""
        return tuple(self.places.of(*self.encoder.image_state(patch_images)))


class TextEntry(Entry):
    """The text lane's entry."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder, encoder.text_places(encoder.config.max_source_length))

    def forward(self, src_tokens: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return the fields of `LaneTokens`, of two i64[B, T]."""
        places = self.places.first(src_tokens.shape[1])
        return tuple(places.of(*self.encoder.text_state(src_tokens, attention_mask)))


class EncoderStep(nn.Module):
    """One encoder layer with its table of relative biases, for either lane."""

    biases: Tensor

    def __init__(self, encoder: Encoder, layer: int) -> None:
        super().__init__()
        self.layer = cast(EncoderLayer, encoder.layers[layer - 1])
        self.register_buffer("biases", encoder.biases(layer).detach())

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        pos_query: Tensor,
        pos_key: Tensor,
        query_place: Tensor,
        key_place: Tensor,
    ) -> Tensor:
        """Return the next state f32[B, T, D] of the fields of `LaneTokens`."""
        tokens = LaneTokens(hidden, mask, pos_query, pos_key, query_place, key_place)
        state: Tensor = self.layer(tokens, self.biases)
        return state


class Join(nn.Module):
    """The context of both lanes."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return f32[B, C, D] and its mask f32[B, C] of the lanes' last states and masks."""
        return self.encoder.join(image, text), torch.cat([image_mask, text_mask], dim=1)


class CrossKeys(nn.Module):
    """The context's keys and values for a decoder layer."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values f32[B, C, W] of f32[B, C, D]."""
        return self.layer.cross(context)


class DecoderEntry(nn.Module):
    """The embedding of a token, and what its position adds to cross-attention."""

    biases: Tensor

    def __init__(self, model: OfaModel) -> None:
        super().__init__()
        encoder, config = model.encoder, model.config
        self.decoder = model.decoder
        source = [encoder.image_positions(), encoder.text_positions(config.max_source_length)]
        biases = model.decoder.cross_bias(torch.cat(source), config.max_steps)
        self.register_buffer("biases", biases.detach().transpose(0, 1).contiguous())  # [S, H, C]

    def forward(self, token: Tensor, step: Tensor, context_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state f32[B, 1, D] and the bias of cross-attention f32[B, H, C].

        Args:
            token: i64[B, 1], the last one.
            step: i64[B], its place, from 0.
            context_mask: f32[B, C].
        """
        context = context_mask.shape[1]
        bias = self.biases[:, :, :context][step]
        return self.decoder.embed(token), bias + ((1.0 - context_mask) * MASKED)[:, None, :]


class DecoderStep(nn.Module):
    """One decoder layer over one token, with a cache of earlier ones."""

    biases: Tensor
    slots: Tensor

    def __init__(self, decoder: Decoder, layer: int) -> None:
        super().__init__()
        self.layer = cast(DecoderLayer, decoder.layers[layer - 1])
        self.steps = decoder.config.max_steps
        biases = decoder.self_bias(layer, self.steps)  # [H, query, key]
        self.register_buffer("biases", biases.detach().permute(1, 2, 0).flatten(0, 1).contiguous())
        self.register_buffer("slots", torch.arange(self.steps))

    def forward(
        self,
        hidden: Tensor,
        key: Tensor,
        value: Tensor,
        cached: Tensor,
        step: Tensor,
        cross_key: Tensor,
        cross_value: Tensor,
        cross_bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next state, and the token's own key and value.

        Args:
            hidden: f32[B, 1, D].
            key: f32[B, S, W], the cache; what lies beyond `cached` is not read.
            value: the same.
            cached: i64[B], earlier tokens that this layer has seen; the position bias takes them
                for the last ones before this.
            step: i64[B], the token's place, from 0.
            cross_key: f32[B, C, W], of the context.
            cross_value: the same.
            cross_bias: f32[B, H, C].

        Returns:
            f32[B, 1, D], and two f32[B, W].
        """
        state, (own_key, own_value) = self.layer(
            hidden,
            self._self_bias(cached, step),
            (cross_key, cross_value),
            cross_bias[:, :, None, :],
            past=(key, value),
            valid=self._valid(cached),
        )
        return state, own_key[:, 0], own_value[:, 0]

    def _self_bias(self, cached: Tensor, step: Tensor) -> Tensor:
        """Return f32[B, H, 1, S + 1]: the cache's slots, then the token itself."""
        place, count = step[:, None], cached[:, None]
        earlier = (place - count + self.slots).clamp(max=self.steps - 1)  # [B, S]
        columns = torch.cat([earlier, place], dim=1)
        bias = F.embedding(place * self.steps + columns, self.biases)  # [B, S + 1, H]
        return bias.transpose(1, 2)[:, :, None, :]

    def _valid(self, cached: Tensor) -> Tensor:
        """Return bool[B, 1, 1, S + 1]: which slots hold a token."""
        filled = self.slots < cached[:, None]
        return torch.cat([filled, torch.ones_like(filled[:, :1])], dim=1)[:, None, None, :]


class Propagate(nn.Module):
    """The key and value of a skipped layer, of the state with which a token left."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return two f32[B, W] of f32[B, 1, D]."""
        key, value = self.layer.propagate(hidden)
        return key[:, 0], value[:, 0]


class Logits(nn.Module):
    """The output projection, which answers after every layer."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, V] of f32[B, 1, D]."""
        return self.decoder.logits(hidden[:, 0])
