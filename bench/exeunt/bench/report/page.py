"""A report as one HTML file: nothing is loaded from anywhere, and every text is escaped."""

import base64
import json
from collections.abc import Mapping

from pydantic import JsonValue

from exeunt.bench.report.charts import Chart
from exeunt.bench.report.figures import Report
from exeunt.bench.report.plots import DARK, LIGHT, Look, draw
from exeunt.bench.report.shown import cell, shown, spread, unit_shown
from exeunt.bench.report.table import machine_line


def report_page(report: Report) -> str:
    """Return the page; its charts are drawn for light and for dark, as the reader's system asks."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exeunt.bench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        report=report,
        machine=machine_line(report.machine),
        charts=[(chart, _uri(chart, LIGHT), _uri(chart, DARK)) for chart in report.charts],
        workload=_json(report.workload),
        details=_json(report.details) if report.details else "",
        light=LIGHT,
        dark=DARK,
        cell=cell,
        shown=shown,
        spread=spread,
        unit_shown=unit_shown,
    )


def _uri(chart: Chart, look: Look) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(draw(chart, "svg", look)).decode()


def _json(values: Mapping[str, JsonValue]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)
