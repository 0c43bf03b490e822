"""The exit policy's one format: in YAML, in overrides and in what tuning writes.

::

    exit_policy:
      version: 1
      tasks:
        default:                    # or a task's name
          joint:                    # a lane
            any:                    # or all
              - {criterion: entropy, threshold: 0.25, min_layer: 1}
"""

import math
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.exit_policy.decay import DecaySpec

Criteria = Literal["entropy", "patience", "cosine", "confidence", "margin", "never"]
Fills = Literal["propagate", "copy-token", "copy-layer", "mue"]
Reductions = Literal["flattened", "token-mean", "min-token", "cls"]


def _no_truth_value(value: object) -> object:
    """Refuse `yes` and `true`, which would otherwise pass as the number 1."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {str(value).lower()}")
    return value


Finite = Annotated[float, BeforeValidator(_no_truth_value), Field(allow_inf_nan=False)]
Counted = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1)]
TEMPERATURES = (1e-3, 1e3)  # beyond them a softmax in float32 is flat or a single 1

RANGES: dict[str, tuple[float, float]] = {
    "entropy": (0.0, math.inf),
    "patience": (0.0, math.inf),
    "cosine": (-1.0, 1.0),
    "confidence": (0.0, 1.0),
    "margin": (0.0, 1.0),
}


class RuleOptions(Frozen):
    """Options of a criterion.

    normalized: entropy in units of ln C. reduction: how cosine treats tokens. temperature: of
    confidence, a number or one for each layer. decay: in a lane that loops, how the threshold falls
    from step to step.
    """

    normalized: bool = False
    reduction: Reductions = "flattened"
    temperature: Finite | tuple[Finite, ...] = 1.0
    decay: DecaySpec | None = None

    @field_validator("temperature")
    @classmethod
    def _positive(cls, value: float | tuple[float, ...]) -> float | tuple[float, ...]:
        values = value if isinstance(value, tuple) else (value,)
        least, most = TEMPERATURES
        if not values or not all(least <= one <= most for one in values):
            raise ValueError(f"a temperature must lie in [{least:g}, {most:g}], found {value}")
        return value


_OPTION_OF = {
    "normalized": ("entropy",),
    "reduction": ("cosine",),
    "temperature": ("confidence",),
    "decay": ("cosine", "confidence", "margin"),  # where a larger threshold is the stricter one
}


class RuleSpec(Frozen):
    """One criterion with its threshold: a number, or one for each layer.

    min_layer: no exit before this layer; patience counts from layer 1 all the same.
    """

    criterion: Criteria
    threshold: Finite | tuple[Finite, ...] | None = None
    min_layer: Counted = 1
    options: RuleOptions = RuleOptions()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for option in self.options.model_fields_set:
            if self.criterion not in _OPTION_OF[option]:
                raise ValueError(
                    f"option {option!r} belongs to {' or '.join(_OPTION_OF[option])}, not to"
                    f" {self.criterion}"
                )
        if self.criterion == "never":
            if self.threshold is not None:
                raise ValueError("`never` takes no threshold: remove it")
            return self
        if self.threshold is None:
            raise ValueError(f"{self.criterion} needs a threshold")
        values = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        least, most = RANGES[self.criterion]
        if not values or not all(least <= value <= most for value in values):
            raise ValueError(
                f"the threshold of {self.criterion} must lie in [{least:g}, {most:g}],"
                f" found {self.threshold}"
            )
        if self.criterion == "patience" and any(value != int(value) for value in values):
            raise ValueError(f"the threshold of patience counts layers, found {self.threshold}")
        return self


class LaneRules(Frozen):
    """Rules of one lane: leave when any of them fires, or when all of them do.

    fill: in a lane that keeps caches, what the layers hold that a token has skipped; see
    `LaneCaches.left`.
    """

    any: tuple[RuleSpec, ...] = ()
    all: tuple[RuleSpec, ...] = ()
    fill: Fills = "propagate"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.any) == bool(self.all):
            raise ValueError("name rules under exactly one of `any` and `all`")
        return self


class ExitPolicy(Frozen):
    """Criteria and thresholds for each task (or `default`) and lane.

    version: the deployment's own number; every answer says which one judged it. A lane that is not
    named runs to full depth.
    """

    version: Counted = 1
    tasks: dict[str, dict[str, LaneRules]] = Field(default_factory=dict)
