"""Figures with their spread, and the report that holds them."""

import statistics
from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from exeunt.bench.report.charts import Chart
from exeunt.engine.bundle.tensors import Frozen

FORMAT: Final = 1

Better = Literal["higher", "lower"]
FigureName = Annotated[str, Field(min_length=1, max_length=120)]
Cell = str | int | float | None


class Figure(Frozen):
    """One measured quantity: the median over repeats, and how far they spread.

    repeats: each repeat's value, in the order they were measured. unit: `requests/s`, `ms`, `s`,
    `share` (of 1), `x` (a ratio), `bytes`, any other
    word, or none for a bare number. better: which way is good.
    """

    median: float
    least: float
    most: float
    repeats: tuple[float, ...] = Field(min_length=1)
    unit: str
    better: Better

    @classmethod
    def of(cls, repeats: Iterable[float], unit: str, better: Better) -> "Figure":
        """Return the figure of at least one repeat."""
        values = tuple(float(value) for value in repeats)
        return cls(
            median=statistics.median(values),
            least=min(values),
            most=max(values),
            repeats=values,
            unit=unit,
            better=better,
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = (self.median, self.least, self.most)
        if found != (statistics.median(self.repeats), min(self.repeats), max(self.repeats)):
            raise ValueError(f"median, least and most {found} are not those of the repeats")
        return self


class Sheet(Frozen):
    """A table of a report that is read, not compared. rows: one cell for each column."""

    title: str
    columns: tuple[str, ...] = Field(min_length=1)
    rows: tuple[tuple[Cell, ...], ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of {self.title!r} has {len(row)} cells, there are"
                    f" {len(self.columns)} columns"
                )
        return self


class Machine(Frozen):
    """What a report was measured on; see `this_machine`.

    cores: those that the process may use. memory_bytes: of the machine. threads: of the compute
    pool; None where another process's are not known. versions: of the packages, by name.
    """

    cores: int = Field(ge=1)
    cpu: str
    architecture: str
    memory_bytes: int = Field(ge=0)
    system: str
    python: str
    threads: int | None = Field(default=None, ge=1)
    versions: dict[str, str]


class Report(Frozen):
    """What one run of a bench found.

    created: date and time in UTC, ISO 8601. command: the command line. measured: what was measured,
    in words. workload: what two reports must share to be comparable. not_measured: the reason for
    each figure that could not be had. problems: why the figures, or some of them, are not to be
    trusted. sheets, charts: for readers. details: anything else.
    """

    format: Literal[1] = FORMAT
    created: str
    command: str
    measured: str
    workload: dict[str, JsonValue]
    machine: Machine
    figures: dict[FigureName, Figure]
    not_measured: dict[FigureName, str] = Field(default_factory=dict)
    problems: tuple[str, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    charts: tuple[Chart, ...] = ()
    details: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if both := sorted(set(self.figures) & set(self.not_measured)):
            raise ValueError(f"{both[0]!r} is both measured and not measured")
        names = [chart.name for chart in self.charts]
        if len(set(names)) < len(names):
            raise ValueError("two charts have one name: their files would overwrite each other")
        return self
