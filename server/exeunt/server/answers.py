"""What `/predict` answers with: the models of its responses."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from exeunt.engine.answer import Answer


class LaneBody(BaseModel):
    """Where the sample left a lane; the deepest of its tokens in one that generates."""

    exit_layer: int
    depth: int
    cached: bool = Field(
        default=False,
        description="There only where true: another request had walked the lane for this image.",
    )


class TimingsBody(BaseModel):
    """Milliseconds inside the engine: waiting, computing, and both."""

    queue: float
    compute: float
    total: float


class AnswerBody(BaseModel):
    """One sample's answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "task": "vqa",
                    "label": "circle",
                    "probabilities": {"circle": 0.998, "rectangle": 0.002},
                    "exit_layer": 2,
                    "depth": 6,
                    "criterion": "entropy",
                    "reason": "criterion",
                    "score": 0.014,
                    "threshold": 0.1,
                    "lanes": {"joint": {"exit_layer": 2, "depth": 6}},
                    "timings_ms": {"queue": 0.4, "compute": 3.1, "total": 3.5},
                    "policy_version": 1,
                }
            ]
        },
    )

    task: str
    label: str | None = Field(
        default=None,
        description="The most probable one; null where there are no labels. Not of a free text.",
    )
    index: int | None = Field(
        default=None, description="Its place among the labels. Not of a free text."
    )
    probabilities: dict[str, float] | None = Field(
        default=None, description="By label, or by place. Not of a free text."
    )
    text: str | None = Field(default=None, description="Of a generation only.")
    tokens: list[int] | None = Field(
        default=None, description="Of a generation only; the end token included."
    )
    token_exit_layers: list[int] | None = Field(
        default=None,
        description="Of a generation only. Of allowed answers, up to the last token that was open.",
    )
    text_score: float | None = Field(
        default=None,
        description=(
            "Of beams: sum(log p) / length^penalty. Of allowed answers: log p. Else null."
        ),
    )
    exit_layer: int = Field(description="Counts from 1.")
    depth: int
    criterion: str
    reason: str = Field(description="`criterion` when it fired, `depth` at the last layer.")
    score: float | None
    threshold: float | None
    lanes: dict[str, LaneBody]
    timings_ms: TimingsBody
    policy_version: int
    batch_invariant: bool | None = Field(
        default=None,
        description=(
            "Only from a model with int8 layers, and then false: the logits, and so the exit, can"
            " move with what else was in the batch."
        ),
    )

    @classmethod
    def of(cls, answer: Answer, *, batch_invariant: bool = True) -> "AnswerBody":
        """Return the body for the engine's answer, from a bundle that is batch-invariant or not."""
        timings, chosen = answer.timings_ms, _is_chosen(answer)
        return cls(
            task=answer.task,
            label=answer.label if chosen else None,
            index=answer.index if chosen else None,
            probabilities=answer.probabilities if chosen else None,
            text=answer.text,
            tokens=list(answer.tokens) or None,
            token_exit_layers=list(answer.token_exit_layers) or None,
            text_score=answer.text_score,
            exit_layer=answer.exit_layer,
            depth=answer.depth,
            criterion=answer.criterion,
            reason=answer.reason,
            score=answer.score,
            threshold=answer.threshold,
            lanes={
                name: LaneBody(exit_layer=lane.exit_layer, depth=lane.depth, cached=lane.cached)
                for name, lane in answer.lanes.items()
            },
            timings_ms=TimingsBody(
                queue=round(timings.queue, 3),
                compute=round(timings.compute, 3),
                total=round(timings.total, 3),
            ),
            policy_version=answer.policy_version,
            batch_invariant=None if batch_invariant else False,
        )

    def to_json(self) -> str:
        """Return the JSON text, without the fields that do not apply."""
        spare: dict[str, Any] = {}
        if self.tokens is None:
            spare |= dict.fromkeys(_OF_GENERATIONS, True)
        elif self.index is None:
            spare |= dict.fromkeys(_OF_CHOICES, True)
        if self.batch_invariant is None:
            spare["batch_invariant"] = True
        spare["lanes"] = {name: {"cached"} for name, lane in self.lanes.items() if not lane.cached}
        return self.model_dump_json(exclude=spare)


_OF_GENERATIONS = ("text", "tokens", "token_exit_layers", "text_score")
_OF_CHOICES = ("label", "index", "probabilities")


def _is_chosen(answer: Answer) -> bool:
    """Return whether an answer is one of several that were known before, and not a free text."""
    return not answer.tokens or bool(answer.labels)


class ErrorBody(BaseModel):
    """Every error's body."""

    error: str = Field(description="What was wrong, what was expected and how to mend it.")
    error_type: str = Field(description="A stable name; docs/errors.md lists them all.")
