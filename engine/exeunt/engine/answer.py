"""What a request is answered with."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LaneReport:
    """Where a sample left a lane: `exit_layer` of `depth`; the deepest of its rows or tokens."""

    exit_layer: int
    depth: int


@dataclass(frozen=True)
class Timings:
    """Milliseconds from submission: waiting for the first step, computing, and both."""

    queue: float
    compute: float
    total: float


@dataclass(frozen=True)
class Answer:
    """The answer to one sample.

    label: the most probable label, None where the task has none. index: its place. probabilities:
    by label (by place where the task has no labels). logits: float32 [C], the answering head's.
    exit_layer, depth: of the answering lane. criterion: what decided, `never` where no rule was
    set. reason: "criterion" when it fired, "depth" when the row ran to the end. tokens,
    token_exit_layers: of a generation.
    """

    task: str
    label: str | None
    index: int
    probabilities: dict[str, float]
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
