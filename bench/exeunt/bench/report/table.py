"""Reports as tables for a terminal."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from exeunt.bench.report.figures import Machine, Report, Sheet
from exeunt.bench.report.shown import cell, shown, unit_shown


def report_table(report: Report) -> Group:
    """Return a report's figures, sheets and problems."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    table = Table(title=escape(report.measured), caption=escape(machine_line(report.machine)))
    table.add_column("figure", no_wrap=True)
    for column in ("median", "", "least", "most", "n"):
        table.add_column(column, justify="right" if column else "left")
    for name, figure in report.figures.items():
        table.add_row(
            escape(name),
            shown(figure.median, figure.unit),
            escape(unit_shown(figure.unit)),
            shown(figure.least, figure.unit),
            shown(figure.most, figure.unit),
            str(len(figure.repeats)),
        )
    for name in report.not_measured:
        table.add_row(escape(name), "-", "", "-", "-", "-")
    yield table
    for name, reason in report.not_measured.items():
        yield Text(f"{name} was not measured: {reason}")
    for sheet in report.sheets:
        yield sheet_table(sheet)
    for problem in report.problems:
        yield Text(f"Not to be trusted: {problem}", style="bold red")


def sheet_table(sheet: Sheet) -> Table:
    """Return a sheet as a table; numbers to the right."""
    table = Table(title=escape(sheet.title), box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for place, column in enumerate(sheet.columns):
        words = all(isinstance(row[place], str) for row in sheet.rows)
        table.add_column(escape(column), justify="left" if words else "right")
    for row in sheet.rows:
        table.add_row(*(escape(cell(value)) for value in row))
    return table


def machine_line(machine: Machine) -> str:
    """Return a machine in one line."""
    threads = "" if machine.threads is None else f", {machine.threads} threads"
    versions = ", ".join(f"{name} {found}" for name, found in machine.versions.items())
    return f"{machine.cpu}, {machine.cores} cores{threads}; Python {machine.python}; {versions}"
