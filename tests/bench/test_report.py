"""Reports: what a figure is, and files that can be read back."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from exeunt.bench.report import (
    Figure,
    Report,
    Sheet,
    read_report,
    report_json,
    report_table,
    this_machine,
    write_report,
)
from exeunt.engine.errors import ConfigError
from tests.bench.reports import chart, report

finite = st.floats(-1e300, 1e300)  # the mean of two larger ones may be infinite


def test_a_figure_is_made_from_its_repeats() -> None:
    figure = Figure.of([3, 1, 2, 10], "ms", "lower")
    assert (figure.median, figure.least, figure.most) == (2.5, 1.0, 10.0)
    assert figure.repeats == (3.0, 1.0, 2.0, 10.0)


@pytest.mark.parametrize("repeats", [[], [float("nan")], [1.0, float("inf")]])
def test_a_figure_needs_finite_repeats(repeats: list[float]) -> None:
    with pytest.raises((ValidationError, ValueError)):
        Figure.of(repeats, "ms", "lower")


def test_a_figure_that_contradicts_its_repeats_is_refused() -> None:
    values = Figure.of([1, 2, 3], "ms", "lower").model_dump()
    with pytest.raises(ValidationError, match="not those of the repeats"):
        Figure.model_validate({**values, "median": 2.5})


@given(st.lists(finite, min_size=1, max_size=7), st.text(max_size=20))
def test_a_report_is_read_back_equal(repeats: list[float], text: str) -> None:
    before = report(
        {"a": Figure.of(repeats, text, "higher")},
        measured=text,
        details={"x": [1, None, repeats[0], {text: True}]},
        sheets=(Sheet(title=text, columns=("a", "b"), rows=((1, 2.5), (None, text))),),
    )
    assert Report.model_validate_json(report_json(before)) == before


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    before = report(charts=(chart(),))
    files = write_report(before, tmp_path / "new" / "folder")
    assert [file.name for file in files] == ["report.json", "latency.png", "report.html"]
    assert read_report(files[0]) == before
    assert write_report(before, tmp_path / "new" / "folder") == files  # again, over them


def _changed(**changes: Any) -> str:
    return json.dumps({**json.loads(report_json(report())), **changes})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[1]", "expected an object with `format: 1`"),
        ("{}", "expected an object with `format: 1`"),
        (_changed(format=2), "has format 2, this version reads 1"),
        (_changed(format=True), "has format true"),
        (_changed(figures={"a": {"median": 1}}), r"damaged at figures\.a"),
        (_changed(extra=1), "damaged at extra"),
        (_changed(figures={"a": None}), r"damaged at figures\.a"),
        (_changed(machine=None), "damaged at machine"),
        (_changed(not_measured={"requests_per_second": "b"}), "both measured and not measured"),
    ],
)
def test_what_is_no_report_is_refused(content: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        read_report(file)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        read_report(tmp_path / "none.json")
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigError, match="name a directory"):
        write_report(report(), tmp_path / "a")


def test_the_machine_is_described_without_its_name() -> None:
    import platform

    machine = this_machine(3)
    assert machine.threads == 3
    assert machine.cores >= 1
    assert machine.memory_bytes > 2**28
    assert machine.versions.keys() >= {"exeunt", "numpy", "onnxruntime"}
    assert platform.node() not in machine.model_dump_json().replace(machine.cpu, "")


def test_the_table_shows_everything() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    shown = report(
        not_measured={"phi": "rho is over .95"},
        problems=("the generator lagged [bold]behind[/]",),
        sheets=(Sheet(title="Rates", columns=("policy", "rate"), rows=(("never", 1234.5),)),),
    )
    console.print(report_table(shown))
    text = console.export_text()
    for expected in (
        "requests_per_second",
        "1,000",
        "requests/s",
        "phi was not measured: rho is over .95",
        "Not to be trusted: the generator lagged [bold]behind[/]",
        "1,234",
        "2 cores, 2 threads",
    ):
        assert expected in text, expected
