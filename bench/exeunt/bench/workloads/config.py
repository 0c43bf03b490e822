"""The sizes of the synthetic workload."""

from typing import Self

from pydantic import Field, ValidationError, model_validator

from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.errors import ConfigError
from exeunt.engine.validation import first_problem

HEAD_WIDTH = 64  # of BERT-base: 768 / 12
FEATURE_SIZE = 2048  # of a detector's region
BOX_COLUMNS = 7  # x1, y1, x2, y2, width, height, area, in units of the image
LANE = "joint"


class UniterConfig(Frozen):
    """Sizes of a `uniter-base` model with random weights; the defaults are UNITER-base's.

    hidden: the state's width. heads: attention heads; 0 takes one for every 64 of the width. words,
    regions: the most that a sample has; together they are its tokens. labels: classes of every exit
    head. vocab: words of the vocabulary. seed: of the weights.
    """

    hidden: int = Field(default=768, ge=1, le=8192)
    layers: int = Field(default=12, ge=1, le=96)
    heads: int = Field(default=0, ge=0, le=256)
    words: int = Field(default=28, ge=2, le=512)
    regions: int = Field(default=36, ge=1, le=512)
    labels: int = Field(default=3, ge=2, le=65_536)
    vocab: int = Field(default=28_996, ge=8, le=1_000_000)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @property
    def attention_heads(self) -> int:
        """Attention heads, the automatic 0 resolved."""
        return self.heads or max(1, self.hidden // HEAD_WIDTH)

    @property
    def tokens(self) -> int:
        """Tokens of the longest sample."""
        return self.words + self.regions

    @property
    def key(self) -> str:
        """Every setting in one word, fit for a file's name."""
        return (
            f"h{self.hidden}-l{self.layers}-a{self.attention_heads}-w{self.words}-r{self.regions}"
            f"-c{self.labels}-v{self.vocab}-s{self.seed}"
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden % self.attention_heads:
            raise ValueError(
                f"hidden {self.hidden} is not a multiple of {self.attention_heads} heads: give"
                " another width, or name the heads"
            )
        return self


def uniter_config(**settings: int) -> UniterConfig:
    """Return a validated configuration; see `UniterConfig` for the settings.

    Raises:
        ConfigError: names the setting that is wrong and what was expected.
    """
    try:
        return UniterConfig.model_validate(settings)
    except ValidationError as error:
        key, what = first_problem(error)
        raise ConfigError(f"workload uniter-base, at {key or 'top'}: {what}") from None
