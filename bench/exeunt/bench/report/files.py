"""Reports as files: JSON that can be read back, pictures, and a page."""

import json
from pathlib import Path

from pydantic import ValidationError

from exeunt.bench.report.figures import FORMAT, Report
from exeunt.engine.errors import ConfigError
from exeunt.engine.validation import first_problem

JSON_FILE = "report.json"
PAGE_FILE = "report.html"


def write_report(report: Report, directory: Path) -> list[Path]:
    """Write `report.json`, a PNG for each chart, and `report.html`, which needs none of them.

    Args:
        report: what to write.
        directory: is made where it is missing; files of the same names are overwritten.

    Returns:
        The files.

    Raises:
        ConfigError: the directory cannot be written to.
    """
    from exeunt.bench.report.page import report_page
    from exeunt.bench.report.plots import LIGHT, draw

    contents = {JSON_FILE: report_json(report).encode()}
    contents |= {f"{chart.name}.png": draw(chart, "png", LIGHT) for chart in report.charts}
    contents[PAGE_FILE] = report_page(report).encode()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (directory / name).write_bytes(content)
    except OSError as error:
        raise ConfigError(
            f"cannot write the report to {directory} ({error.strerror}): name a directory that can"
            " be written to"
        ) from None
    return [directory / name for name in contents]


def report_json(report: Report) -> str:
    """Return the report as JSON text, from which `read_report` makes an equal one."""
    return report.model_dump_json(indent=2) + "\n"


def read_report(file: Path) -> Report:
    """Read a report that `write_report` or `--json` wrote.

    Raises:
        ConfigError: the file cannot be read, is of another format, or is damaged.
    """
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the report {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is no report: it is not valid JSON ({error})") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found is None:
        raise ConfigError(f"{file} is no report: expected an object with `format: {FORMAT}`")
    if isinstance(found, bool) or found != FORMAT:
        raise ConfigError(
            f"{file} has format {json.dumps(found)[:40]}, this version reads {FORMAT}: measure"
            " again, or use the version that wrote it"
        )
    try:
        # From the text, not from `content`: strict JSON has no other way to make tuples.
        return Report.model_validate_json(json.dumps(content))
    except ValidationError as error:
        where, what = first_problem(error)
        raise ConfigError(
            f"the report {file} is damaged at {where or 'the top'}: {what}; measure again"
        ) from None
