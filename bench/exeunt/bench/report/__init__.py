"""Reports: figures with their spread, as JSON, tables, pictures and a page; and comparing them."""

from exeunt.bench.report.charts import Chart, Mark, Series
from exeunt.bench.report.compare import Comparison, compare
from exeunt.bench.report.figures import Figure, Machine, Report, Sheet
from exeunt.bench.report.files import read_report, report_json, write_report
from exeunt.bench.report.machine import command_line, now, this_machine
from exeunt.bench.report.table import report_table

__all__ = [
    "Chart",
    "Comparison",
    "Figure",
    "Machine",
    "Mark",
    "Report",
    "Series",
    "Sheet",
    "command_line",
    "compare",
    "now",
    "read_report",
    "report_json",
    "report_table",
    "this_machine",
    "write_report",
]
