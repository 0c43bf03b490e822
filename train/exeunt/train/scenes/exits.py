"""Exit rules of the model's lanes and decoder, and what they save."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from exeunt.engine.exit_policy.decay import DecaySpec
from exeunt.train.scenes.words import MAX_TARGET_TOKENS

NEVER = 2.0  # above every cosine


@dataclass(frozen=True)
class LaneRule:
    """Leave a lane at the first layer whose cosine is over the threshold, or at a fixed layer."""

    threshold: float = NEVER
    layer: int | None = None

    def exits(self, cosines: Tensor) -> Tensor:
        """Return the layers i64[B], from 1, of cosines f32[L, B].

        Reference: MuE, Eq. (8), (9), Algorithm 1
        """
        return _first_above(cosines, self.threshold, self.layer)


@dataclass(frozen=True)
class TokenRule:
    """Leave the decoder at the first layer whose cosine is over a threshold that may decay.

    Reference: MuE, Eq. (10), (11)
    """

    threshold: float = NEVER
    layer: int | None = None
    decay: DecaySpec | None = None

    def leave(self, step: int, cosines: Tensor) -> Tensor:
        """Return the layers i64[B], from 1, of a step's cosines f32[L, B]; steps count from 0."""
        threshold = self.threshold
        if self.decay is not None:
            threshold = self.decay.at(threshold, step, MAX_TARGET_TOKENS)
        return _first_above(cosines, threshold, self.layer)


def _first_above(cosines: Tensor, threshold: float, layer: int | None) -> Tensor:
    if layer is not None:
        return torch.full((cosines.shape[1],), layer)
    fires = cosines > threshold
    fires[-1] = True
    return fires.int().argmax(dim=0) + 1


@dataclass(frozen=True)
class ExitPlan:
    """The rules of one task. Without decomposition the lane's rule is that of `image`."""

    image: LaneRule = field(default_factory=LaneRule)
    text: LaneRule = field(default_factory=LaneRule)
    decoder: TokenRule = field(default_factory=TokenRule)


@dataclass(frozen=True)
class LayersUsed:
    """Exit layers of a corpus, from 1."""

    image: Tensor  # i64[B]
    text: Tensor  # i64[B]
    tokens: Tensor  # i64[W], of all generated words
    encoder_depth: int
    decoder_depth: int

    @property
    def reduction(self) -> float:
        """Return the expected time reduction, 0 to 1.

        1 - (n_E / N_E + sum_i w_i n_D / sum_i w_i N_D) / 2, n_E the mean of image and text layers.

        Reference: MuE, Eq. (14)
        """
        encoder = (self.mean(self.image) + self.mean(self.text)) / 2 / self.encoder_depth
        return 1.0 - (encoder + self.mean(self.tokens) / self.decoder_depth) / 2

    @staticmethod
    def mean(layers: Tensor) -> float:
        """Return the mean layer."""
        return float(layers.double().mean())
