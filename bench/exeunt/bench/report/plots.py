"""Charts as pictures: PNG for documents, SVG for the page; one look for light, one for dark."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Literal

from exeunt.bench.report.charts import Chart, Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Formatter

SIZE_INCHES = (5.6, 3.7)
PNG_DPI = 200
MARKERS = "osD^vP"


@dataclass(frozen=True)
class Look:
    """Colours. series: told apart with every common kind of colour blindness, used in order."""

    background: str
    ink: str
    faint: str
    series: tuple[str, ...]


LIGHT = Look("#ffffff", "#1f2328", "#d8dde3", ("#0b6bb5", "#c8590a", "#2b7a4b", "#8045a8"))
DARK = Look("#15191e", "#e3e8ee", "#38414b", ("#69b4f5", "#f79a54", "#6cc491", "#c79bec"))


def draw(chart: Chart, kind: Literal["png", "svg"], look: Look) -> bytes:
    """Return a chart as a picture's bytes.

    Args:
        chart: what to show.
        kind: the file format.
        look: its colours.
    """
    import matplotlib
    from matplotlib.figure import Figure as Picture

    with matplotlib.rc_context(
        {
            "font.size": 11,
            "text.parse_math": False,  # a name may hold a dollar sign
            "axes.edgecolor": look.ink,
            "text.color": look.ink,
            "axes.labelcolor": look.ink,
            "xtick.color": look.ink,
            "ytick.color": look.ink,
            "svg.hashsalt": chart.name,  # equal reports make equal files
        }
    ):
        picture = Picture(SIZE_INCHES, layout="constrained", facecolor=look.background)
        axes = picture.add_subplot(facecolor=look.background)
        if chart.kind == "bars":
            _bars(axes, chart, look)
        else:
            _lines(axes, chart, look)
        _frame(axes, chart, look)
        if len(chart.series) > 1:
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(-0.02, 1.0),
                ncols=3,
                frameon=False,
                borderaxespad=0.2,
            )
        if kind == "png":  # a page has it as a heading
            picture.suptitle(chart.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        file = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        picture.savefig(file, format=kind, dpi=PNG_DPI, metadata=metadata)
    return file.getvalue()


def _lines(axes: "Axes", chart: Chart, look: Look) -> None:
    styles = zip(cycle(look.series), cycle(MARKERS), strict=False)
    for series, (colour, marker) in zip(chart.series, styles, strict=False):
        x, y = _numbers(series.x), _numbers(series.y)
        if series.low is not None and series.high is not None:
            low, high = _numbers(series.low), _numbers(series.high)
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        shape = marker if chart.kind == "lines" else ""
        axes.plot(x, y, color=colour, marker=shape, markersize=5.5, linewidth=2, label=series.name)
        for place in series.hollow:
            axes.plot(
                x[place],
                y[place],
                marker,
                markersize=7,
                markerfacecolor=look.background,
                markeredgecolor=colour,
                markeredgewidth=1.6,
            )


def _bars(axes: "Axes", chart: Chart, look: Look) -> None:
    groups = chart.series[0].x
    width = 0.8 / len(chart.series)
    for place, (series, colour) in enumerate(zip(chart.series, cycle(look.series), strict=False)):
        shift = (place - (len(chart.series) - 1) / 2) * width
        y = [0.0 if value is None else value for value in series.y]
        centres = [group + shift for group in range(len(groups))]
        axes.bar(centres, y, width * 0.94, color=colour, label=series.name)
        if series.low is not None and series.high is not None:
            low = [value - (least or 0.0) for value, least in zip(y, series.low, strict=True)]
            high = [(most or 0.0) - value for value, most in zip(y, series.high, strict=True)]
            axes.errorbar(centres, y, [low, high], fmt="none", ecolor=look.ink, capsize=3)
        if chart.share_y and len(groups) * len(chart.series) <= 16:
            labels = [f"{value:.0%}" if value >= 0.005 else "" for value in y]
            for centre, value, label in zip(centres, y, labels, strict=True):
                axes.annotate(
                    label,
                    (centre, value),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
    axes.set_xticks(range(len(groups)), [f"{group}" for group in groups])


def _frame(axes: "Axes", chart: Chart, look: Look) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", color=look.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    percent = FuncFormatter(lambda value, _: f"{100 * value:.10g}%")
    axes.yaxis.set_major_formatter(percent if chart.share_y else plain)
    if chart.log_y:
        _log_scale(axes, "y", plain)
    else:
        axes.set_ylim(bottom=0)
    if chart.log_x:
        _log_scale(axes, "x", plain)
    elif chart.kind != "bars":
        axes.xaxis.set_major_formatter(plain)
        axes.set_xlim(left=0)
    colours = dict(zip((s.name for s in chart.series), cycle(look.series), strict=False))
    for mark in chart.marks:
        _mark(axes, mark, colours.get(mark.series or "", look.ink), look)


def _log_scale(axes: "Axes", which: Literal["x", "y"], plain: "Formatter") -> None:
    """Use decades, with 2 and 5 between them where they have room."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})
    least, most = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    between = (1.0, 2.0, 5.0) if most < 1000 * least else (1.0,)
    axis.set_major_locator(LogLocator(subs=between, numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(plain)


def _mark(axes: "Axes", mark: Mark, colour: str, look: Look) -> None:
    """Draw a dashed line, its label along it and inside the frame."""
    from matplotlib.patheffects import withStroke

    dashes = (0, (4, 3))
    label = axes.annotate(
        mark.label,
        (0.01, mark.at) if mark.axis == "y" else (mark.at, 0.99),
        (0, 3) if mark.axis == "y" else (-3, 0),
        xycoords=("axes fraction", "data") if mark.axis == "y" else ("data", "axes fraction"),
        textcoords="offset points",
        va="bottom" if mark.axis == "y" else "top",
        ha="left" if mark.axis == "y" else "right",
        rotation=0 if mark.axis == "y" else 90,
        color=colour,
        fontsize=9.5,
        path_effects=[withStroke(linewidth=3, foreground=look.background)],
    )
    label.set_zorder(5)
    if mark.axis == "y":
        axes.axhline(mark.at, color=colour, linestyle=dashes, linewidth=1.3)
    else:
        axes.axvline(mark.at, color=colour, linestyle=dashes, linewidth=1.3)


def _numbers(values: Sequence[object]) -> list[float]:
    """Return numbers, NaN where there is none: a gap in the line."""
    return [value if isinstance(value, int | float) else float("nan") for value in values]
