"""What a bundle costs on a machine: lanes, segment costs and the engine's own time, as a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.errors import ConfigError
from exeunt.engine.scheduling import Costs, SegmentCost
from exeunt.engine.validation import first_problem

MAX_FILE_BYTES = 10_000_000
MAX_SPREAD = 20_000

Seconds = Field(ge=0)


class Line(Frozen):
    """Seconds of a batch of b rows: alpha_s + beta_s b."""

    alpha_s: float = Seconds
    beta_s: float = Seconds

    @classmethod
    def of(cls, cost: SegmentCost) -> Self:
        """Return an engine's cost as part of a file."""
        return cls(alpha_s=cost.alpha_s, beta_s=cost.beta_s)

    @property
    def cost(self) -> SegmentCost:
        """The cost as the engine's scheduling takes it."""
        return SegmentCost(self.alpha_s, self.beta_s)


class StageCosts(Line):
    """One segment of a lane, its head included.

    layer: 0 before the first. planned: what the engine's scheduling policy takes it for, found once
    at start-up; None where that is the same.
    """

    segment: str = Field(min_length=1)
    layer: int = Field(ge=0)
    planned: Line | None = None


class LaneCosts(Frozen):
    """A lane, behind every lane that it joins.

    unit_rows: rows that decide together. units: decision units that a sample has here. exits:
    whether rows may leave before the last layer.
    """

    name: str = Field(min_length=1)
    join: tuple[str, ...] = ()
    unit_rows: int = Field(default=1, ge=1)
    units: int = Field(default=1, ge=1)
    exits: bool = True
    stages: tuple[StageCosts, ...] = Field(min_length=1)

    @property
    def depth(self) -> int:
        """Layers of the lane."""
        return self.stages[-1].layer

    @property
    def first_layer(self) -> int:
        """The stage of layer 1."""
        return len(self.stages) - self.depth

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = [stage.layer for stage in self.stages]
        if found != [max(0, place - self.first_layer + 1) for place in range(len(found))]:
            raise ValueError(
                f"the stages of lane {self.name!r} have layers {found}: expected zeros, then 1, 2,"
                " 3 and so on"
            )
        return self


class OwnTime(Frozen):
    """The engine's own time: choosing, gathering, judging, keeping and moving rows on.

    step_s: of every step. row_s: of every row of its batch. request_s: of taking a request in.
    """

    step_s: float = Seconds
    row_s: float = Seconds
    request_s: float = Seconds


class CostFile(Frozen):
    """Everything that a simulation knows of a bundle and its machine.

    name: the bundle's. lanes: each behind those that it joins; the last one answers. spread: how
    much longer one batch after the other takes than its line says, as factors in the order in which
    they were met; none where all take what they should. measured_rows: of the largest batch that
    was timed; None where nobody measured. setting: backend and machine, for readers.
    """

    format: Literal[1] = 1
    name: str
    lanes: tuple[LaneCosts, ...] = Field(min_length=1)
    own: OwnTime
    spread: tuple[Annotated[float, Seconds], ...] = Field(default=(), max_length=MAX_SPREAD)
    measured_rows: int | None = Field(default=None, ge=1)
    setting: dict[str, str | int] = Field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Layers of the answering lane."""
        return self.lanes[-1].depth

    @property
    def rows(self) -> int:
        """Rows that a sample has at most in one lane."""
        return max(lane.unit_rows * lane.units for lane in self.lanes)

    @property
    def planned(self) -> Costs:
        """The costs that the scheduling policy knows."""
        return Costs(
            {
                (index, place): (stage.planned or stage).cost
                for index, lane in enumerate(self.lanes)
                for place, stage in enumerate(lane.stages)
            },
            {
                index: tuple(
                    other for other, later in enumerate(self.lanes) if lane.name in later.join
                )
                for index, lane in enumerate(self.lanes)
            },
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: set[str] = set()
        for lane in self.lanes:
            if lane.name in seen:
                raise ValueError(f"two lanes are named {lane.name!r}")
            if missing := [name for name in lane.join if name not in seen]:
                raise ValueError(
                    f"lane {lane.name!r} joins {missing[0]!r}, which does not come before it"
                )
            seen.add(lane.name)
        if unread := seen - {self.lanes[-1].name} - _joined(self.lanes):
            raise ValueError(f"no lane joins {sorted(unread)[0]!r}: put the answering lane last")
        if not self.depth:
            raise ValueError(f"the answering lane {self.lanes[-1].name!r} has no layers")
        return self


def halfway(before: CostFile, after: CostFile) -> CostFile:
    """Return the costs of the time between two measurements of one bundle in one engine.

    A machine's speed drifts: the mean of both sides is nearer to what lies between than either.
    """
    lanes = tuple(
        first.model_copy(
            update={
                "stages": tuple(
                    one.model_copy(
                        update={
                            "alpha_s": (one.alpha_s + other.alpha_s) / 2,
                            "beta_s": (one.beta_s + other.beta_s) / 2,
                        }
                    )
                    for one, other in zip(first.stages, second.stages, strict=True)
                )
            }
        )
        for first, second in zip(before.lanes, after.lanes, strict=True)
    )
    own = OwnTime(
        step_s=(before.own.step_s + after.own.step_s) / 2,
        row_s=(before.own.row_s + after.own.row_s) / 2,
        request_s=(before.own.request_s + after.own.request_s) / 2,
    )
    half = MAX_SPREAD // 2
    spread = before.spread[:half] + after.spread[:half]
    return before.model_copy(update={"lanes": lanes, "own": own, "spread": spread})


def _joined(lanes: Sequence[LaneCosts]) -> set[str]:
    return {name for lane in lanes for name in lane.join}


def read_costs(file: Path) -> CostFile:
    """Read what `write_costs` or a person wrote.

    Raises:
        ConfigError: the file cannot be read, or says something impossible; it says where.
    """
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{file} is no file of costs: it has over {MAX_FILE_BYTES:,} bytes")
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the costs {file}: {error.strerror}; `exeunt simulate --save-costs FILE`"
            " measures and writes them"
        ) from None
    try:
        return CostFile.model_validate_json(content)
    except ValidationError as error:
        where, what = first_problem(error)
        raise ConfigError(f"the costs {file}, at {where or 'top'}: {what}") from None


def write_costs(costs: CostFile, file: Path) -> None:
    """Write costs as JSON.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        file.write_text(costs.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the costs to {file}: {error.strerror}") from None
