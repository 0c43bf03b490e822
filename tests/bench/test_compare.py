"""Comparing reports: what is better, worse, or only noise."""

import json
from pathlib import Path
from typing import Any

import pytest

from exeunt.bench.report import Figure, Report, compare, report_json
from exeunt.bench.report.compare import judge
from exeunt.bench.report.figures import Better
from exeunt.server.cli import main
from tests.bench.reports import MACHINE, report


@pytest.mark.parametrize(
    ("a", "b", "better", "verdict"),
    [
        ([100, 101, 102], [110, 111, 112], "higher", "better"),
        ([100, 101, 102], [110, 111, 112], "lower", "worse"),
        ([110, 111, 112], [100, 101, 102], "higher", "worse"),
        ([110, 111, 112], [100, 101, 102], "lower", "better"),
        ([100, 101, 102], [100, 101, 102], "higher", "within noise"),
        # The ranges lie apart, the medians by less than 3 %.
        ([100, 101, 102], [103, 103.5, 104], "higher", "within noise"),
        ([100, 100, 100], [103, 103, 103], "higher", "within noise"),
        ([100, 100, 100], [103.1, 103.1, 103.1], "higher", "better"),
        # The medians lie far apart, the ranges touch.
        ([100, 101, 120], [120, 150, 160], "higher", "within noise"),
        ([100, 101, 120], [121, 150, 160], "higher", "better"),
        # Fewer than three repeats say nothing of noise.
        ([100, 101], [200, 201], "higher", "within noise"),
        ([100, 101, 102], [200, 201], "higher", "within noise"),
        # From nothing to something.
        ([0, 0, 0], [0, 0, 0], "lower", "within noise"),
        ([0, 0, 0], [0.1, 0.1, 0.2], "lower", "worse"),
        ([-2, -2, -2], [-1, -1, -1], "higher", "better"),
    ],
)
def test_the_verdict(a: list[float], b: list[float], better: Better, verdict: str) -> None:
    assert judge(Figure.of(a, "x", better), Figure.of(b, "x", better)) == verdict


def _rates(*repeats: float) -> Report:
    return report({"rate": Figure.of(repeats, "requests/s", "higher")})


def test_ratios_and_one_sided_figures() -> None:
    zero = Figure.of([0, 0, 0], "share", "lower")
    ms = Figure.of([1, 1, 1], "ms", "lower")
    one = Figure.of([100, 100, 100], "requests/s", "higher")
    two = Figure.of([150, 150, 150], "requests/s", "higher")
    found = compare(
        report({"rate": one, "errors": zero, "a": ms, "odd": ms}),
        report({"rate": two, "errors": zero, "b": ms, "odd": one}),
    )
    by_name = {figure.name: figure for figure in found.figures}
    assert by_name.keys() == {"rate", "errors"}
    assert by_name["rate"].ratio == 1.5
    assert by_name["errors"].ratio is None
    assert found.only == {"A": ("a",), "B": ("b",)}
    assert any("odd is not compared: ms" in warning for warning in found.warnings)
    assert not found.is_worse
    assert json.loads(json.dumps(found.as_json()))["figures"]["rate"]["verdict"] == "better"


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"machine": MACHINE.model_copy(update={"threads": 1})}, "threads differs: 2 in A, 1 in B"),
        ({"machine": MACHINE.model_copy(update={"cpu": "Another"})}, "the processor differs"),
        ({"machine": MACHINE.model_copy(update={"cores": 8})}, "the number of cores differs"),
        (
            {"machine": MACHINE.model_copy(update={"versions": {"exeunt": "9", "numpy": "3"}})},
            "the version of numpy differs: 2.0.0 in A, 3 in B",
        ),
        ({"workload": {"model": "demo"}}, "the workload differs in 'rate': 500 in A, None in B"),
        ({"problems": ("it lagged",)}, "B is not to be trusted: it lagged"),
    ],
)
def test_what_makes_reports_incomparable_is_said(change: dict[str, Any], warning: str) -> None:
    found = compare(report(), report(**change))
    assert len(found.warnings) == 1
    assert warning in found.warnings[0]


def test_another_version_of_exeunt_is_no_warning() -> None:
    newer = MACHINE.model_copy(update={"versions": {"exeunt": "9", "numpy": "2.0.0"}})
    assert compare(report(), report(machine=newer)).warnings == ()


def test_too_few_repeats_are_said() -> None:
    assert "measure at least 3" in compare(_rates(1, 2), _rates(5, 6)).warnings[0]


@pytest.mark.parametrize(
    ("b", "options", "status", "says"),
    [
        ((50, 51, 52), [], 0, "worse"),
        ((50, 51, 52), ["--fail-on-worse"], 1, "worse"),
        ((150, 151, 152), ["--fail-on-worse"], 0, "better"),
        ((99, 101, 102), ["--fail-on-worse"], 0, "within noise"),
        ((50, 51, 52), ["--json"], 0, '"ratio": 0.5'),
    ],
)
def test_the_command(
    b: tuple[float, ...], options: list[str], status: int, says: str, tmp_path: Path, capsys: Any
) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, repeats in zip(files, ((100, 102, 104), b), strict=True):
        file.write_text(report_json(_rates(*repeats)))
    with pytest.raises(SystemExit) as ended:
        main(["bench", "compare", *map(str, files), *options])
    assert int(ended.value.code or 0) == status
    assert says in capsys.readouterr().out


def test_the_command_names_a_bad_file(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.json").write_text("no report")
    with pytest.raises(SystemExit) as ended:
        main(["bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")])
    assert ended.value.code == 2
    assert "a.json is no report" in capsys.readouterr().err
