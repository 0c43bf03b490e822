"""The decoder of X-VLM's VQA: BERT's layers with cross-attention to the question, by tokens."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.export.families.hf.embeddings import TextEmbeddings
from exeunt.export.families.xvlm.config import TextConfig
from exeunt.export.families.xvlm.narrow import mix
from exeunt.export.layers.bert import MASKED
from exeunt.export.layers.cross import BertCrossLayer
from exeunt.export.layers.vit import causal_bias, padding_bias

Pair = tuple[Tensor, Tensor]


class _Bert(nn.Module):
    """Embeddings and layers."""

    def __init__(self, sizes: TextConfig, layers: int) -> None:
        super().__init__()
        width, heads, ffn = sizes.hidden_size, sizes.num_attention_heads, sizes.intermediate_size
        self.embeddings = TextEmbeddings(
            sizes.vocab_size,
            sizes.max_position_embeddings,
            width,
            sizes.layer_norm_eps,
            types=sizes.type_vocab_size,
        )
        stack = nn.ModuleList([BertCrossLayer(width, heads, ffn) for _ in range(layers)])
        self.encoder = nn.ModuleDict({"layer": stack})


class _Transform(nn.Module):
    """What comes before the vocabulary."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return f32[..., D] of f32[..., D]."""
        normed: Tensor = self.LayerNorm(F.gelu(self.dense(hidden)))
        return normed


class _Predictions(nn.Module):
    """The output projection."""

    def __init__(self, sizes: TextConfig) -> None:
        super().__init__()
        self.transform = _Transform(sizes.hidden_size, sizes.layer_norm_eps)
        self.decoder = nn.Linear(sizes.hidden_size, sizes.vocab_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[..., V] of f32[..., D]."""
        logits: Tensor = self.decoder(self.transform(hidden))
        return logits


class TextDecoder(nn.Module):
    """The decoder, under the official names."""

    def __init__(self, sizes: TextConfig, layers: int) -> None:
        super().__init__()
        self.bert = _Bert(sizes, layers)
        self.cls = nn.ModuleDict({"predictions": _Predictions(sizes)})

    @property
    def layers(self) -> list[BertCrossLayer]:
        """The layers."""
        return [cast(BertCrossLayer, layer) for layer in self.bert.encoder["layer"].children()]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits f32[..., V] of the state f32[..., D] after any layer."""
        logits: Tensor = self.cls["predictions"](hidden)
        return logits

    def forward(self, tokens: Tensor, question: Tensor, mask: Tensor) -> Tensor:
        """Return logits f32[B, T, V] of what follows each token.

        Args:
            tokens: i64[B, T], the start first.
            question: f32[B, S, D], its states.
            mask: f32[B, S], its valid tokens.
        """
        hidden: Tensor = self.bert.embeddings(tokens)
        ahead = causal_bias(tokens.shape[1], hidden)
        for layer in self.layers:
            hidden, _ = decode(layer, hidden, ahead, cross_pair(layer, question), mask)
        return self.logits(hidden)


def cross_pair(layer: BertCrossLayer, question: Tensor) -> Pair:
    """Return the question's keys and values f32[B, S, W] for a layer."""
    inner = layer.crossattention.self
    return inner.key(question), inner.value(question)


def own_pair(layer: BertCrossLayer, hidden: Tensor) -> Pair:
    """Return the keys and values f32[B, T, W] that a layer makes of a state f32[B, T, D]."""
    inner = layer.attention.self
    return inner.key(hidden), inner.value(hidden)


def decode(
    layer: BertCrossLayer,
    hidden: Tensor,
    bias: Tensor,
    cross: Pair,
    mask: Tensor,
    past: Pair | None = None,
) -> tuple[Tensor, Pair]:
    """Return the next state f32[B, T, D], and the tokens' own keys and values f32[B, T, W].

    Args:
        layer: of the decoder.
        hidden: f32[B, T, D], the state after the layer before.
        bias: f32, broadcast to [B, H, T, P + T], what hides tokens.
        cross: the question's keys and values.
        mask: f32[B, S], its valid tokens.
        past: keys and values f32[B, P, W] of earlier tokens.
    """
    inner, other = layer.attention.self, layer.crossattention.self
    own = own_pair(layer, hidden)
    key, value = own
    if past is not None:
        key, value = torch.cat([past[0], key], dim=1), torch.cat([past[1], value], dim=1)
    mixed = mix(inner.query(hidden), key, value, inner.num_heads, bias)
    attended = layer.attention.output(mixed, hidden)
    mixed = mix(other.query(attended), *cross, other.num_heads, padding_bias(mask))
    crossed = layer.crossattention.output(mixed, attended)
    following: Tensor = layer.output(layer.intermediate(crossed), crossed)
    return following, own


class DecoderEntry(nn.Module):
    """The embedding of a token at its place."""

    def __init__(self, decoder: TextDecoder) -> None:
        super().__init__()
        self.embeddings = decoder.bert.embeddings

    def forward(self, token: Tensor, step: Tensor) -> Tensor:
        """Return the state f32[B, 1, D] of the last token i64[B, 1] at its place i64[B], from 0."""
        parts = self.embeddings
        assert parts.token_type_embeddings is not None, "BERT's texts have types"
        words = parts.word_embeddings(token) + parts.token_type_embeddings.weight[0]
        state: Tensor = parts.LayerNorm(words + parts.position_embeddings(step)[:, None])
        return state


class CrossKeys(nn.Module):
    """The question's keys and values for every layer, and its mask."""

    def __init__(self, decoder: TextDecoder) -> None:
        super().__init__()
        self.layers = nn.ModuleList(decoder.layers)

    def forward(self, question: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return the mask, copied, then keys and values f32[B, S, W] by layer."""
        pairs = (cross_pair(cast(BertCrossLayer, layer), question) for layer in self.layers)
        return mask.clone(), *(tensor for pair in pairs for tensor in pair)


class DecoderStep(nn.Module):
    """One layer over one token, with a cache of earlier ones.

    Args:
        layer: of the decoder.
        steps: tokens that the cache has room for.
        width: of the cache; a pruned layer may fill less of it.
    """

    slots: Tensor

    def __init__(self, layer: BertCrossLayer, steps: int, width: int) -> None:
        super().__init__()
        self.layer, self.width = layer, width
        self.register_buffer("slots", torch.arange(steps))

    def forward(
        self,
        hidden: Tensor,
        key: Tensor,
        value: Tensor,
        cached: Tensor,
        cross_key: Tensor,
        cross_value: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next state f32[B, 1, D], and the token's own key and value f32[B, W].

        Args:
            hidden: f32[B, 1, D].
            key: f32[B, steps, W], the cache; what lies beyond `cached` is not read.
            value: the same.
            cached: i64[B], earlier tokens that this layer has seen.
            cross_key: f32[B, S, W'], of the question.
            cross_value: the same.
            mask: f32[B, S], its valid tokens.
        """
        seen = self.slots < cached[:, None]
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
        bias = (1.0 - seen.to(hidden.dtype))[:, None, None, :] * MASKED
        filled = own_width(self.layer)
        past = key[:, :, :filled], value[:, :, :filled]
        state, own = decode(self.layer, hidden, bias, (cross_key, cross_value), mask, past)
        return state, *widened(own, self.width)


class Propagate(nn.Module):
    """The key and value of a skipped layer, of the state with which a token left."""

    def __init__(self, layer: BertCrossLayer, width: int) -> None:
        super().__init__()
        self.layer, self.width = layer, width

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return two f32[B, W] of f32[B, 1, D]."""
        return widened(own_pair(self.layer, hidden), self.width)


class Logits(nn.Module):
    """The output projection, which answers after every layer."""

    def __init__(self, decoder: TextDecoder) -> None:
        super().__init__()
        self.predictions = decoder.cls["predictions"]

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, V] of f32[B, 1, D]."""
        logits: Tensor = self.predictions(hidden[:, 0])
        return logits


def own_width(layer: BertCrossLayer) -> int:
    """Return the width of a layer's own keys and values."""
    return layer.attention.self.key.out_features


def widened(pair: Pair, width: int) -> Pair:
    """Return one token's keys and values f32[B, 1, W'] as f32[B, width], zeros behind them."""
    key, value = (F.pad(part[:, 0], (0, width - part.shape[2])) for part in pair)
    return key, value
