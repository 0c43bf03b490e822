"""What `/predict` answers with: the models of its responses."""

from pydantic import BaseModel, ConfigDict, Field

from exeunt.engine.answer import Answer


class LaneBody(BaseModel):
    """Where the sample left a lane."""

    exit_layer: int
    depth: int


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
    label: str | None = Field(description="The most probable one; null where there are no labels.")
    index: int = Field(description="Its place among the labels.")
    probabilities: dict[str, float]
    exit_layer: int = Field(description="Counts from 1.")
    depth: int
    criterion: str
    reason: str = Field(description="`criterion` when it fired, `depth` at the last layer.")
    score: float | None
    threshold: float | None
    lanes: dict[str, LaneBody]
    timings_ms: TimingsBody
    policy_version: int
    tokens: list[int] | None = Field(default=None, description="Of a generation only.")
    token_exit_layers: list[int] | None = None
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
        timings = answer.timings_ms
        return cls(
            task=answer.task,
            label=answer.label,
            index=answer.index,
            probabilities=answer.probabilities,
            exit_layer=answer.exit_layer,
            depth=answer.depth,
            criterion=answer.criterion,
            reason=answer.reason,
            score=answer.score,
            threshold=answer.threshold,
            lanes={
                name: LaneBody(exit_layer=lane.exit_layer, depth=lane.depth)
                for name, lane in answer.lanes.items()
            },
            timings_ms=TimingsBody(
                queue=round(timings.queue, 3),
                compute=round(timings.compute, 3),
                total=round(timings.total, 3),
            ),
            policy_version=answer.policy_version,
            tokens=list(answer.tokens) or None,
            token_exit_layers=list(answer.token_exit_layers) or None,
            batch_invariant=None if batch_invariant else False,
        )

    def to_json(self) -> str:
        """Return the JSON text; the fields of generations and of int8 only where they apply."""
        spare = {"tokens", "token_exit_layers"} if self.tokens is None else set()
        if self.batch_invariant is None:
            spare.add("batch_invariant")
        return self.model_dump_json(exclude=spare)


class ErrorBody(BaseModel):
    """Every error's body."""

    error: str = Field(description="What was wrong, what was expected and how to mend it.")
    error_type: str = Field(description="A stable name; docs/errors.md lists them all.")
