"""Exit rules of the model's lanes and decoder, and what they save."""

from dataclasses import dataclass, field
from typing import Literal, Self

from torch import Tensor

NEVER = 2.0  # above every score
ALWAYS = -1.0  # below every score but the cosine of exact opposites

# What a layer's score is: how little it changed the state, or how sure it is of its answer, which
# only the decoder's layers have.
Measure = Literal["cosine", "confidence"]


@dataclass(frozen=True)
class LaneRule:
    """Leave at the first layer whose score is over its threshold, the last one at the latest.

    thresholds: of each layer but the last; none at all means full depth.
    """

    thresholds: tuple[float, ...] = ()
    measure: Measure = "cosine"

    @classmethod
    def over(cls, threshold: float, depth: int) -> Self:
        """Return the rule of one threshold for all layers."""
        return cls((threshold,) * (depth - 1))

    @classmethod
    def fixed(cls, layer: int, depth: int) -> Self:
        """Return the rule by which all leave after one layer, from 1."""
        return cls((NEVER,) * (layer - 1) + (ALWAYS,) * (depth - layer))

    def exits(self, scores: Tensor) -> Tensor:
        """Return the layers i64[B], from 1, of scores f32[L, B].

        Reference: MuE, Eq. (8), (9), Algorithm 1, where scores are cosines
        """
        over = scores > scores.new_tensor(self.of_depth(len(scores)))[:, None]
        over[-1] = True
        return over.int().argmax(dim=0) + 1

    def of_depth(self, depth: int) -> tuple[float, ...]:
        """Return the thresholds of all layers; the last one's is `NEVER`."""
        return (*(self.thresholds or (NEVER,) * (depth - 1)), NEVER)


@dataclass(frozen=True)
class ExitPlan:
    """The rules of one task. Without decomposition the lane's rule is that of `image`."""

    image: LaneRule = field(default_factory=LaneRule)
    text: LaneRule = field(default_factory=LaneRule)
    decoder: LaneRule = field(default_factory=LaneRule)


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
