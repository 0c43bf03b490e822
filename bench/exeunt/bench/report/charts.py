"""What a chart shows, apart from how it is drawn."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from exeunt.engine.bundle.tensors import Frozen

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+([_.-][a-z0-9]+)*$", max_length=60)]


class Series(Frozen):
    """One line, or one bar of each group.

    x: numbers, or the names of a bar chart's groups. y: None where there is no value. low, high:
    the spread of each y, both or neither. hollow: places of points that are not to be trusted.
    """

    name: str
    x: tuple[float, ...] | tuple[str, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None
    hollow: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"series {self.name!r} needs both `low` and `high`, or neither")
        for values in (self.y, self.low, self.high):
            if values is not None and len(values) != len(self.x):
                raise ValueError(
                    f"series {self.name!r} has {len(self.x)} x and {len(values)} other values:"
                    " give one for each x"
                )
        return self


class Mark(Frozen):
    """A labelled line across the chart, at a value of one axis; coloured like a series."""

    axis: Literal["x", "y"]
    at: float
    label: str
    series: str | None = None


class Chart(Frozen):
    """A picture of a report. name: of its file, and of its place in the page.

    kind: `lines` with a marker at each point, `curves` without, `bars` in groups. share_y: y is a
    share of 1, shown in percent.
    """

    name: Slug
    title: str
    kind: Literal["lines", "curves", "bars"]
    x_label: str
    y_label: str
    series: tuple[Series, ...] = Field(min_length=1)
    marks: tuple[Mark, ...] = ()
    log_x: bool = False
    log_y: bool = False
    share_y: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        for series in self.series:
            named = any(isinstance(x, str) for x in series.x)
            if named and self.kind != "bars":
                raise ValueError(f"chart {self.name!r} draws {self.kind}: its x must be numbers")
        if self.kind == "bars" and len({tuple(map(str, s.x)) for s in self.series}) > 1:
            raise ValueError(f"the bars of chart {self.name!r} need the same groups in each series")
        return self
