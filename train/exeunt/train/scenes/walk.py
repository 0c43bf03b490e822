"""Walking an encoder lane in training and evaluation, keeping every layer's states."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exeunt.export.families.ofa.encoder import LaneTokens
from exeunt.export.families.ofa.model import OfaModel


@dataclass(frozen=True)
class LaneStates:
    """A lane's states of B rows."""

    states: list[Tensor]  # the embedding, then after every layer, f32[B, T, D]
    mask: Tensor  # f32[B, T], 0 at padding

    def at(self, layers: Tensor, rows: Tensor) -> Tensor:
        """Return the states f32[R, T, D] of `rows` i64[R], each after its layer of i64[R]."""
        stacked = torch.stack(self.states)
        # A selection along one axis, whose gradient is far cheaper than that of two.
        return stacked.flatten(0, 1).index_select(0, layers * stacked.shape[1] + rows)


def pixel_values(pixels: NDArray[np.uint8]) -> Tensor:
    """Scale uint8[B, 64, 64, 3] to f32[B, 3, 64, 64] in [-1, 1], as `preprocessor.json` says."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def image_lane(model: OfaModel, pixels: Tensor) -> LaneStates:
    """Walk the image lane over f32[B, 3, H, W].

    Reference: MuE, Eq. (3)
    """
    tokens = model.encoder.embed_image(pixels)
    return LaneStates(model.encoder.walk(tokens), tokens.mask)


def text_lane(model: OfaModel, source: Tensor) -> LaneStates:
    """Walk the text lane over i64[B, S], in which the padding id is padding.

    Reference: MuE, Eq. (3)
    """
    tokens = model.encoder.embed_text(source, torch.ones_like(source))
    return LaneStates(model.encoder.walk(tokens), tokens.mask)


def joint_lane(model: OfaModel, pixels: Tensor, images: Tensor, source: Tensor) -> LaneStates:
    """Walk an encoder without decomposition over [image; text].

    Args:
        model: the same weights as with decomposition.
        pixels: f32[N, 3, H, W].
        images: i64[R], the image of each row.
        source: i64[R, S].

    Reference: MuE, Eq. (1), (2); table 4
    """
    encoder = model.encoder
    image = LaneTokens(*(part[images] for part in encoder.embed_image(pixels)))
    text = encoder.embed_text(source, torch.ones_like(source))
    # Relative positions are those of two tokens of one modality: places are moved so that pairs
    # across find rows of zeros before or behind the table.
    rows = encoder.relative.rows
    image = image._replace(query_place=image.query_place + rows, key_place=image.key_place + rows)
    tokens = LaneTokens(*(torch.cat(parts, dim=1) for parts in zip(image, text, strict=True)))
    tokens = tokens._replace(query_place=tokens.query_place + 2 * rows)
    states = [tokens.hidden]
    for place, layer in enumerate(encoder.layers, 1):
        biases = encoder.biases(place)
        zeros = biases.new_zeros(2 * rows, biases.shape[1])
        biases = torch.cat([zeros, biases, zeros[:rows]])
        states.append(layer(tokens._replace(hidden=states[-1]), biases))
    return LaneStates(states, tokens.mask)
