"""Exit rules of the model's lanes and decoder, and what they save."""

from dataclasses import dataclass, field

from torch import Tensor

from exeunt.engine.exit_policy.decay import DecaySpec
from exeunt.train.scenes.words import MAX_TARGET_TOKENS

NEVER = 2.0  # above every cosine


@dataclass(frozen=True)
class LaneRule:
    """Leave a lane at the first layer whose cosine is over the threshold.

    At `latest`, from 1, all that are left leave, whatever their cosine: as with a threshold of -1
    from that layer on.
    """

    threshold: float = NEVER
    latest: int | None = None

    def exits(self, cosines: Tensor) -> Tensor:
        """Return the layers i64[B], from 1, of cosines f32[L, B].

        Reference: MuE, Eq. (8), (9), Algorithm 1
        """
        return _first_above(cosines, self.threshold, self.latest)


@dataclass(frozen=True)
class TokenRule:
    """Leave the decoder like a lane, by a threshold that may decay.

    Reference: MuE, Eq. (10), (11)
    """

    threshold: float = NEVER
    latest: int | None = None
    decay: DecaySpec | None = None

    def leave(self, step: int, cosines: Tensor) -> Tensor:
        """Return the layers i64[B], from 1, of a step's cosines f32[L, B]; steps count from 0."""
        threshold = self.threshold
        if self.decay is not None:
            threshold = self.decay.at(threshold, step, MAX_TARGET_TOKENS)
        return _first_above(cosines, threshold, self.latest)


def _first_above(cosines: Tensor, threshold: float, latest: int | None) -> Tensor:
    fires = cosines > threshold
    fires[(latest or len(cosines)) - 1 :] = True
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
