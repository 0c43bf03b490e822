"""The oracle of MuE: one sample at a time, in torch, with caches that grow.

Reference: MuE, Algorithm 1; the threshold by step as the published code has it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from exeunt.export.families.ofa.config import BOS, EOS, PAD
from exeunt.export.families.ofa.decoder import DecoderLayer, Pair
from exeunt.export.families.ofa.encoder import LaneTokens
from exeunt.export.families.ofa.model import Context, OfaModel

Fill = Literal["propagate", "copy-token", "copy-layer", "mue"]
FILLS: dict[str, Fill] = {  # by the suffix of the goldens' arrays
    "": "mue",
    "_kv_layercopy": "copy-layer",
    "_kv_tokencopy": "copy-token",
    "_kv_propagate": "propagate",
}
NEVER = 2.0


@dataclass
class LaneRun:
    """states: [0] the embedding, then after every layer that ran. cosines: by layer."""

    states: list[Tensor]
    cosines: list[float]

    @property
    def exit_layer(self) -> int:
        return len(self.cosines)


@dataclass
class Generated:
    """By step: tokens, exit layers, cosines by layer, logits [V], hidden states [L + 1][D]."""

    tokens: list[int] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    cosines: list[list[float]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    hidden: list[list[Tensor]] = field(default_factory=list)


def cosine(one: Tensor, other: Tensor) -> float:
    """Return the cosine of two states, flattened."""
    return float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def walk_lane(model: OfaModel, tokens: LaneTokens, threshold: float) -> LaneRun:
    """Walk one sample's lane until a layer's cosine with its input is over the threshold."""
    states, cosines = [tokens.hidden], list[float]()
    for place, layer in enumerate(model.encoder.layers, 1):
        states.append(layer(tokens._replace(hidden=states[-1]), model.encoder.biases(place)))
        cosines.append(cosine(states[-1], states[-2]))
        if cosines[-1] > threshold:
            break
    return LaneRun(states, cosines)


def mue_threshold(step: int, threshold: float, max_len: int) -> float:
    """Return the decoder's threshold at a step, from 0, as in MuE's code."""
    if step < (max_len + 1) / 3:
        return 1.0
    return 0.9 * threshold + 0.1 * math.exp(-(step + 1) / (max_len + 1))


def greedy(logits: Tensor, step: int, max_len: int) -> int:
    """Return the best token: no padding, no end at once, and the end at `max_len`."""
    if step == max_len:
        return EOS
    allowed = logits.clone()
    allowed[PAD] = -math.inf
    if step < 1:
        allowed[EOS] = -math.inf
    return int(allowed.argmax())


class Caches:
    """Every layer's keys and values, of itself [1, n, W] and of the context [1, C, W]."""

    def __init__(self, model: OfaModel, context: Context) -> None:
        self._layers: list[DecoderLayer] = list(model.decoder.layers)  # type: ignore[arg-type]
        empty = torch.zeros(1, 0, model.config.hidden)
        self.own: list[Pair] = [(empty, empty) for _ in self._layers]
        self.cross: list[Pair] = [layer.cross(context.hidden) for layer in self._layers]

    def append(self, layer: int, token: Pair) -> None:
        key, value = self.own[layer]
        self.own[layer] = (torch.cat([key, token[0]], 1), torch.cat([value, token[1]], 1))

    def fill(self, exit_layer: int, token: Pair, hidden: Tensor, how: Fill) -> None:
        """Fill the layers after `exit_layer` (from 1), which the token has skipped."""
        for skipped in range(exit_layer, len(self._layers)):
            if how == "propagate":
                self.append(skipped, self._layers[skipped].propagate(hidden))
            elif how == "copy-token":
                self.append(skipped, token)
            elif how == "copy-layer":
                self.own[skipped] = self.own[exit_layer - 1]
                self.cross[skipped] = self.cross[exit_layer - 1]


def generate(
    model: OfaModel,
    context: Context,
    max_len: int,
    threshold: Callable[[int], float] = lambda step: NEVER,
    how: Fill = "mue",
) -> Generated:
    """Return the greedy text of one sample, each token leaving where its cosine is high enough."""
    decoder, caches, run = model.decoder, Caches(model, context), Generated()
    cross_bias = decoder.cross_bias(context.positions, max_len + 1)  # [H, S, C]
    layers = range(1, model.config.decoder_layers + 1)
    biases = [decoder.self_bias(layer, max_len + 1) for layer in layers]  # each [H, S, S]
    token = BOS
    for step in range(max_len + 1):
        states, cosines = [decoder.embed(torch.tensor([[token]]))], list[float]()
        for place, layer in enumerate(decoder.layers):
            past = caches.own[place]
            count = past[0].shape[1] + 1
            # The last columns of this token's row, however short the cache is.
            row = biases[place][:, step : step + 1, step + 1 - count : step + 1]
            hidden, own = layer(
                states[-1], row, caches.cross[place], cross_bias[:, step : step + 1], past
            )
            caches.append(place, own)
            cosines.append(cosine(hidden, states[-1]))
            states.append(hidden)
            if cosines[-1] > threshold(step):
                break
        caches.fill(len(cosines), own, states[-1], how)
        logits = decoder.logits(states[-1])[0, 0]
        token = greedy(logits, step, max_len)
        run.tokens.append(token)
        run.exits.append(len(cosines))
        run.cosines.append(cosines)
        run.logits.append(logits)
        run.hidden.append([state[0, 0] for state in states])
        if token == EOS:
            break
    return run
