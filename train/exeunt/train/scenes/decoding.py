"""The decoder over rows that share images, with exits: teacher forcing and greedy generation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from exeunt.export.families.ofa.attention import MASKED
from exeunt.export.families.ofa.decoder import Decoder, DecoderLayer, Pair, causal
from exeunt.export.families.ofa.model import OfaModel
from exeunt.train.scenes.losses import cosine
from exeunt.train.scenes.words import BOS_ID, EOS_ID, PAD_ID


@dataclass(frozen=True)
class Source:
    """What the decoder reads of R rows.

    Images are kept apart: their keys and values are made once, however many rows are about them.
    """

    image: Tensor  # f32[N, P, D], through the final norm
    image_rows: Tensor  # i64[R], which of the N
    text: Tensor  # f32[R, S, D], through the final norm
    mask: Tensor  # f32[R, 1, 1, P + S], `MASKED` at padding
    positions: Tensor  # f32[P + S, D]

    def cross(self, layer: DecoderLayer) -> Pair:
        """Return a layer's keys and values f32[R, P + S, W]."""
        of_images, of_texts = layer.cross(self.image), layer.cross(self.text)
        key, value = (
            torch.cat([image.index_select(0, self.image_rows), text], dim=1)
            for image, text in zip(of_images, of_texts, strict=True)
        )
        return key, value


def make_source(
    model: OfaModel, image: Tensor, image_rows: Tensor, text: Tensor, text_mask: Tensor
) -> Source:
    """Join lanes for the decoder.

    Args:
        model: whose encoder made the states.
        image: f32[N, P, D], the states with which the images left their lane.
        image_rows: i64[R], each row's image.
        text: f32[R, S, D], the states with which the texts left theirs.
        text_mask: f32[R, S], 0 at padding.

    Reference: MuE, Eq. (4)
    """
    encoder = model.encoder
    seen = text_mask.new_ones((len(text), image.shape[1]))
    padding = 1.0 - torch.cat([seen, text_mask], dim=1)
    return Source(
        encoder.layer_norm(image),
        image_rows,
        encoder.layer_norm(text),
        padding[:, None, None] * MASKED,
        torch.cat([encoder.image_positions(), encoder.text_positions(text.shape[1])]),
    )


# From the cosines f32[R, S] of a layer, and the tokens bool[R, S] that have left before it, to the
# tokens that leave after it.
Leaves = Callable[[Tensor, Tensor], Tensor]


def teacher_forced(
    model: OfaModel, source: Source, previous: Tensor, leaves: Leaves | None = None
) -> tuple[list[Tensor], Tensor]:
    """Return the decoder's states f32[R, S, D] and the cosine of each layer's with the one before.

    Args:
        model: its decoder.
        source: of the R rows.
        previous: i64[R, S], the tokens before each token, the start first.
        leaves: chooses the tokens that leave after a layer; their states stay as they are, and
            deeper layers make their keys and values of that. By default all use every layer.

    Returns:
        The embedding, then the states after every layer; cosines f32[L, R, S], 1 of layers that a
        token has skipped.
    """
    decoder = model.decoder
    states = [decoder.embed(previous)]
    steps = previous.shape[1]
    later = causal(steps, states[0])
    cross_bias = decoder.cross_bias(source.positions, steps) + source.mask
    left = torch.zeros_like(previous, dtype=torch.bool)
    similarity = []
    for place, layer in enumerate(_layers(decoder), 1):
        bias = decoder.self_bias(place, steps) + later
        hidden, _ = layer(states[-1], bias, source.cross(layer), cross_bias)
        if leaves is not None:
            hidden = torch.where(left[..., None], states[-1], hidden)
        states.append(hidden)
        similarity.append(token_cosine(states[-2], hidden))
        if leaves is not None:
            left = left | leaves(similarity[-1].detach(), left)
    return states, torch.stack(similarity)


def token_cosine(before: Tensor, after: Tensor) -> Tensor:
    """Return the cosine f32[R, S] of each token's states f32[R, S, D]."""
    flat = before.flatten(0, 1)[:, None], after.flatten(0, 1)[:, None]
    return cosine(*flat).view(before.shape[:2])


def _layers(decoder: Decoder) -> list[DecoderLayer]:
    return [layer for layer in decoder.layers if isinstance(layer, DecoderLayer)]


# From a token's embedding and states f32[R, 1, D] to the layers i64[R] after which it leaves.
Leave = Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class Generated:
    """What greedy generation gave to R rows."""

    tokens: Tensor  # i64[R, T], PAD_ID after the end
    exits: Tensor  # i64[R, T], the layer at which a token left, from 1; 0 where there is none


class _Steps:
    """The decoder's caches and biases of a batch under way."""

    def __init__(self, decoder: Decoder, source: Source, max_steps: int) -> None:
        self._decoder = decoder
        self._layers = _layers(decoder)
        self._cross = [source.cross(layer) for layer in self._layers]
        self._cross_bias = decoder.cross_bias(source.positions, max_steps)
        self._padding = source.mask
        places = range(1, len(self._layers) + 1)
        self._self_bias = [decoder.self_bias(place, max_steps) for place in places]
        self._past: list[Pair | None] = [None] * len(self._layers)

    def states(self, tokens: Tensor, step: int) -> tuple[list[Tensor], list[Pair]]:
        """Return a token's states f32[R, 1, D] and, of each layer, its keys and values."""
        states, own = [self._decoder.embed(tokens[:, None])], []
        for layer, bias, cross, past in zip(
            self._layers, self._self_bias, self._cross, self._past, strict=True
        ):
            hidden, pair = layer(
                states[-1],
                bias[:, step : step + 1, : step + 1],
                cross,
                self._cross_bias[:, step : step + 1] + self._padding,
                past,
            )
            states.append(hidden)
            own.append(pair)
        return states, own

    def keep(self, own: list[Pair], left: Tensor, exits: Tensor) -> None:
        """Append a token's keys and values; where it left below a layer, those of its last state.

        Args:
            own: keys and values f32[R, 1, W] of each layer.
            left: f32[R, 1, D], the states with which the rows left.
            exits: i64[R].
        """
        for place, (layer, pair) in enumerate(zip(self._layers, own, strict=True), 1):
            skipped = (exits < place)[:, None, None]
            past = self._past[place - 1]
            filled = [
                torch.where(skipped, held, new)
                for held, new in zip(layer.propagate(left), pair, strict=True)
            ]
            if past is not None:
                filled = [torch.cat(both, dim=1) for both in zip(past, filled, strict=True)]
            self._past[place - 1] = (filled[0], filled[1])


def generate(model: OfaModel, source: Source, leave: Leave | None, max_steps: int) -> Generated:
    """Generate greedily; each token of each row leaves at a layer of its own.

    Skipped layers make their keys and values of the state with which the token left (`propagate`).

    Args:
        model: in eval mode.
        source: of the R rows.
        leave: chooses the exit layers; by default all tokens use every layer.
        max_steps: tokens at most, the end included; the last one is the end for certain.

    Reference: MuE, Algorithm 1
    """
    steps = _Steps(model.decoder, source, max_steps)
    rows, depth = len(source.text), len(model.decoder.layers)
    tokens = torch.full((rows,), BOS_ID)
    done = torch.zeros(rows, dtype=torch.bool)
    words, layers = [], []
    for step in range(max_steps):
        states, own = steps.states(tokens, step)
        exits = torch.full((rows,), depth) if leave is None else leave(states)
        left = torch.stack(states)[exits, torch.arange(rows)]
        steps.keep(own, left, exits)
        logits = model.decoder.logits(left)[:, 0]
        logits[:, [BOS_ID, PAD_ID]] = -torch.inf
        tokens = logits.argmax(dim=-1)
        if step == max_steps - 1:
            tokens = torch.full_like(tokens, EOS_ID)
        words.append(torch.where(done, PAD_ID, tokens))
        layers.append(torch.where(done, 0, exits))
        done = done | (tokens == EOS_ID)
        if bool(done.all()):
            break
    return Generated(torch.stack(words, dim=1), torch.stack(layers, dim=1))
