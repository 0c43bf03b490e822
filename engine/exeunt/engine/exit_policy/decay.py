"""Thresholds that fall while a text is generated: early tokens are judged more strictly."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from exeunt.engine.bundle.tensors import Frozen

Schedule = Literal["mue", "calm", "t5x", "mue-code"]
# CALM's and MuE's shares of the static threshold and of the decaying term.
STATIC, DECAYING = 0.9, 0.1

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DecaySpec(Frozen):
    """How a threshold theta falls with the step t of a loop of N steps.

    `mue`: beta theta + (1 - beta) e^(-tau t / N), as MuE prints it in Eq. (11). `calm`: the same
    with beta .9, clipped to [0, 1] (CALM, Eq. 5). `t5x`: theta (.9 + .1 e^(-tau t / N)), as CALM's
    published code has it. `mue-code`: 1 while t < N / 3, then .9 theta + .1 e^(-(t + 1) / N), as
    MuE's published code has it.

    tau: how fast it falls; 4 where it is not named. beta: of `mue`, in (0, 1]. steps: N; the loop's
    own number without it.
    """

    schedule: Schedule
    tau: Positive = 4.0
    beta: Annotated[float, Field(gt=0, le=1)] = STATIC
    steps: int | None = Field(default=None, ge=1, le=4096)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "beta" in self.model_fields_set and self.schedule != "mue":
            raise ValueError(f"`beta` belongs to the schedule mue, not to {self.schedule}")
        if "tau" in self.model_fields_set and self.schedule == "mue-code":
            raise ValueError("the schedule mue-code takes no `tau`: remove it")
        return self

    def at(self, theta: float, step: int, steps: int) -> float:
        """Return the threshold at a step.

        Args:
            theta: the rule's static threshold.
            step: t, from 0 on.
            steps: of the loop, where the schedule does not name its own.
        """
        total = self.steps or steps
        if self.schedule == "mue-code":
            if step < total / 3:
                return 1.0
            return STATIC * theta + DECAYING * math.exp(-(step + 1) / total)
        falling = math.exp(-self.tau * step / total)
        match self.schedule:
            case "mue":
                return self.beta * theta + (1 - self.beta) * falling
            case "calm":
                return min(1.0, max(0.0, STATIC * theta + DECAYING * falling))
            case _:
                return theta * (STATIC + DECAYING * falling)
