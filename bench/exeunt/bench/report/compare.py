"""Comparing two reports figure by figure: better, worse, or within noise.

A difference is outside noise when the ranges of the repeats do not overlap *and* the medians differ
by more than 3 %. Of two times n repeats of one and the same thing, all n of one side lie on one
side of all others with probability 2 n!^2 / (2n)!: 10 % for n = 3, 0.8 % for n = 5. That is the
exact rank test at its sharpest; it needs no distribution, it can be checked by eye in the table,
and unlike a test of medians it does not call ever smaller differences significant when repeats are
added. With fewer than 3 repeats on a side every difference counts as noise.

Two reports are two runs: what drifted between them is in no range. Measure what must be told apart
in one run, as `exeunt bench load --policy both` does, or the reports in turns.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from exeunt.bench.report.figures import Figure, Machine, Report
from exeunt.bench.report.shown import shown, spread

MIN_RELATIVE_CHANGE = 0.03
MIN_REPEATS = 3

Verdict = Literal["better", "worse", "within noise"]
_STYLE = {"better": "green", "worse": "bold red", "within noise": "dim"}


@dataclass(frozen=True)
class Compared:
    """One figure of two reports. ratio: of the medians, B / A; None where A's is 0."""

    name: str
    a: Figure
    b: Figure
    ratio: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Two reports compared. only: figures that one side lacks, by side."""

    figures: tuple[Compared, ...]
    warnings: tuple[str, ...]
    only: dict[str, tuple[str, ...]]

    @property
    def is_worse(self) -> bool:
        """Whether any figure is worse."""
        return any(one.verdict == "worse" for one in self.figures)

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        figures = {
            one.name: {
                "a": one.a.median,
                "b": one.b.median,
                "unit": one.a.unit,
                "ratio": one.ratio,
                "verdict": one.verdict,
            }
            for one in self.figures
        }
        return {**asdict(self), "figures": figures}

    def as_table(self) -> Group:
        """Return the comparison as a table for a terminal, its warnings below."""
        table = Table(title="B against A: medians, and the least to the most of the repeats")
        table.add_column("figure", no_wrap=True)
        for column in ("A", "B", "B / A"):
            table.add_column(column, justify="right")
        table.add_column("verdict", no_wrap=True)
        for one in self.figures:
            table.add_row(
                escape(one.name),
                _over_range(one.a),
                _over_range(one.b),
                "-" if one.ratio is None else f"{one.ratio:.3f}",
                Text(one.verdict, style=_STYLE[one.verdict]),
            )
        parts: list[RenderableType] = [table]
        parts += [Text(f"Warning: {warning}", style="yellow") for warning in self.warnings]
        parts += [
            Text(f"Only in {side}: {', '.join(names)}")
            for side, names in self.only.items()
            if names
        ]
        return Group(*parts)


def compare(a: Report, b: Report) -> Comparison:
    """Compare every figure that both reports have.

    Args:
        a: what is compared with.
        b: what is judged: `better` means that B is.
    """
    warnings = list(_differences(a, b))
    figures = []
    for name, figure in a.figures.items():
        other = b.figures.get(name)
        if other is None:
            continue
        if (figure.unit, figure.better) != (other.unit, other.better):
            warnings.append(
                f"{name} is not compared: {figure.unit}, {figure.better} is better, in A;"
                f" {other.unit}, {other.better} is better, in B"
            )
            continue
        ratio = other.median / figure.median if figure.median else None
        figures.append(Compared(name, figure, other, ratio, judge(figure, other)))
    only = {
        "A": tuple(name for name in a.figures if name not in b.figures),
        "B": tuple(name for name in b.figures if name not in a.figures),
    }
    return Comparison(tuple(figures), tuple(warnings), only)


def judge(a: Figure, b: Figure) -> Verdict:
    """Return whether B is better than A, worse, or not to be told from it; see the module."""
    change = abs(b.median - a.median)
    too_few = min(len(a.repeats), len(b.repeats)) < MIN_REPEATS
    overlap = a.least <= b.most and b.least <= a.most
    if too_few or overlap or change <= MIN_RELATIVE_CHANGE * abs(a.median):
        return "within noise"
    return "better" if (b.median > a.median) == (a.better == "higher") else "worse"


def _over_range(figure: Figure) -> Text:
    return Text.assemble(shown(figure.median, figure.unit), (f"\n{spread(figure)}", "dim"))


def _differences(a: Report, b: Report) -> list[str]:
    """Return what makes the two not comparable, in words."""
    found = [
        f"{side} is not to be trusted: {problem}"
        for side, report in (("A", a), ("B", b))
        for problem in report.problems
    ]
    found += [
        f"{what} differs: {of_a} in A, {of_b} in B"
        for what, of_a, of_b in _machine_pairs(a.machine, b.machine)
        if of_a != of_b
    ]
    for key in sorted(set(a.workload) | set(b.workload)):
        of_a, of_b = a.workload.get(key), b.workload.get(key)
        if of_a != of_b:
            found.append(f"the workload differs in {key!r}: {of_a!r} in A, {of_b!r} in B")
    few = min((len(f.repeats) for r in (a, b) for f in r.figures.values()), default=MIN_REPEATS)
    if few < MIN_REPEATS:
        found.append(f"a figure of {few} repeats counts as noise: measure at least {MIN_REPEATS}")
    return found


def _machine_pairs(a: Machine, b: Machine) -> list[tuple[str, object, object]]:
    pairs: list[tuple[str, object, object]] = [
        ("the processor", a.cpu, b.cpu),
        ("the number of cores", a.cores, b.cores),
        ("the number of threads", a.threads, b.threads),
        ("the memory", a.memory_bytes, b.memory_bytes),
        ("Python's version", a.python, b.python),
    ]
    # Another version of exeunt is what one compares; of the libraries it is a change of setting.
    libraries = sorted((set(a.versions) | set(b.versions)) - {"exeunt"})
    return pairs + [
        (f"the version of {name}", a.versions.get(name), b.versions.get(name)) for name in libraries
    ]
