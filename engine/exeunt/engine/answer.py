"""What a request is answered with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exeunt.kernels.confidence import softmax

MAX_UNNAMED = 64  # classes without labels beyond this are a vocabulary: only the index is told


@dataclass(frozen=True)
class LaneReport:
    """Where a sample left a lane: `exit_layer` of `depth`; the deepest of its rows or tokens.

    cached: whether the lane was not walked, since another request had computed its result.
    """

    exit_layer: int
    depth: int
    cached: bool = False


@dataclass(frozen=True)
class Timings:
    """Milliseconds from submission: waiting for the first step, computing, and both."""

    queue: float
    compute: float
    total: float


@dataclass(frozen=True)
class Answer:
    """The answer to one sample.

    labels: the task's, in the order of the logits; None where it has none. index: the most probable
    one's place. logits: float32 [C], the answering head's.
    exit_layer, depth: of the answering lane. criterion: what decided, `never` where no rule was
    set. reason: "criterion" when it fired, "depth" when the row ran to the end. tokens: of a
    generation, the end token included; token_exit_layers: of the tokens that were computed (of an
    allowed answer, up to the last that was not certain). text_score: of a search. detokenise: turns
    tokens into a text.

    Of allowed answers, labels are those, and logits their log-probabilities.
    """

    task: str
    labels: Sequence[str] | None
    index: int
    logits: NDArray[np.float32]
    exit_layer: int
    depth: int
    criterion: str
    reason: str
    score: float | None
    threshold: float | None
    lanes: dict[str, LaneReport]
    timings_ms: Timings
    policy_version: int
    tokens: tuple[int, ...] = ()
    token_exit_layers: tuple[int, ...] = field(default=())
    text_score: float | None = None
    detokenise: Callable[[Sequence[int]], str] | None = field(default=None, repr=False)

    @property
    def text(self) -> str | None:
        """The generated text; None where there is none, or no tokenizer to write it with."""
        if not self.tokens or self.detokenise is None:
            return None
        return self.detokenise(self.tokens)

    @property
    def label(self) -> str | None:
        """The most probable label; None where the task has none."""
        return self.labels[self.index] if self.labels else None

    @property
    def probabilities(self) -> dict[str, float]:
        """The softmax of the logits by label, or by place; none of a vocabulary without labels.

        Computed for whoever asks, and not by the engine, which answers others meanwhile.
        """
        if not self.labels and len(self.logits) > MAX_UNNAMED:
            return {}
        names = self.labels or [str(place) for place in range(len(self.logits))]
        return dict(zip(names, softmax(self.logits[None])[0].tolist(), strict=True))
