"""From settings to a report, on targets that answer at once and as they are told."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exeunt.bench.load import Outcome, Reading, Reply, Run, measure
from exeunt.bench.load.bench import bench_load, runs_of
from exeunt.bench.load.opening import Opened, open_targets
from exeunt.bench.load.outcome import Done
from exeunt.bench.load.pictures import rate_charts
from exeunt.bench.load.settings import LoadSettings, load_settings
from exeunt.bench.load.sweep import Point
from exeunt.bench.report import Report
from exeunt.engine.errors import ConfigError

DEPTH = 4
LABELS = ["cat", "dog", "cat", "dog"]
READING = Reading("cat", 0, 1, DEPTH, 1, DEPTH)


class AtOnce:
    """Answers sample n with `labels[n]`, from `exit_layer`, half a millisecond later."""

    def __init__(self, exit_layer: int, labels: list[str], error: str | None = None) -> None:
        self._exit_layer = exit_layer
        self._labels = labels
        self._error = error
        self.sent: list[int] = []

    def send(self, sample: int, done: Done) -> None:
        self.sent.append(sample)
        now_s = time.perf_counter()
        time.sleep(0.0005)
        done(Reply(now_s, now_s + 0.002, self._error, self._labels[sample]))

    def abandon(self) -> None:
        raise AssertionError("nothing takes too long here")

    def read(self, answer: object) -> Reading:
        index = ["cat", "dog"].index(str(answer))
        return Reading(str(answer), index, self._exit_layer, DEPTH, self._exit_layer, DEPTH)

    def generator_cpu_s(self) -> float:
        return 0.0


def _opened(settings: LoadSettings, **targets: Any) -> Opened:
    return Opened(
        targets={policy: targets[policy] for policy in settings.policies},
        labels=list(LABELS),
        model="fake",
        threads=1,
        setting={"engine": {"backend": "fake"}},
        memory_bytes=lambda: 12345,
    )


def _bench(progress: Callable[[str], None] | None = None, **options: Any) -> Report:
    settings = load_settings(**{"seconds": 0.3, "warm_up": 0.02, "repeats": 3, **options})
    # Full depth is right always; with exits, the last sample is answered wrong.
    targets = {"default": AtOnce(1, ["cat", "dog", "cat", "cat"]), "never": AtOnce(DEPTH, LABELS)}
    return bench_load(settings, _opened(settings, **targets), progress)


def test_a_closed_loop() -> None:
    seen: list[str] = []
    report = _bench(seen.append, in_flight=3)
    medians = {name: figure.median for name, figure in report.figures.items()}
    assert medians["default.rho"] == 1 / DEPTH
    assert medians["never.rho"] == 1.0
    assert medians["default.accuracy"] == pytest.approx(0.75, abs=0.01)
    assert medians["never.accuracy"] == 1.0
    assert medians["default.agreement"] == 0.75
    assert medians["never.mean_ms"] == pytest.approx(2.0, abs=1e-3)
    assert medians["default.errors"] == 0.0
    assert medians["p99_ratio"] == pytest.approx(1.0, abs=1e-3)
    rates = [report.figures[f"{policy}.requests_per_second"] for policy in ("default", "never")]
    pairs = zip(rates[0].repeats, rates[1].repeats, strict=True)
    assert report.figures["speed_up"].repeats == tuple(one / other for one, other in pairs)
    assert report.details["peak_memory_bytes"] == 12345
    assert {chart.name for chart in report.charts} == {"latency", "exits"}
    # In turns, every other repeat backwards.
    assert [what.split(",")[0] for what in seen] == [
        "default",
        "never",
        "never",
        "default",
        "default",
        "never",
    ]


def test_policies_see_the_same_samples_in_the_same_order() -> None:
    settings = load_settings(rate=200, seconds=0.2, warm_up=0.0, repeats=2)
    default, never = AtOnce(1, LABELS), AtOnce(DEPTH, LABELS)
    report = bench_load(settings, _opened(settings, default=default, never=never))
    assert default.sent == never.sent
    runs: Any = report.details["runs"]
    assert [one["requests"] for one in runs[:2]] == [one["requests"] for one in runs[2:]]


def test_a_sweep() -> None:
    seen: list[str] = []
    report = _bench(seen.append, rate="sweep", repeats=1, slo_ms=1e4, seconds=0.1, in_flight=3)
    assert len(seen) == runs_of(load_settings(rate="sweep", repeats=1)) == 2 + 2 * 7 + 1
    assert report.figures.keys() >= {
        "default.saturation",
        "never.saturation",
        "default.rho",
        "speed_up",
        "default.agreement",
        "default.p50_ms@0.7",
        "never.p99_ms@0.7",
        "p99_ratio@0.7",
    }
    assert {"default.knee", "never.knee"} <= report.figures.keys() | report.not_measured.keys()
    charts = {chart.name: chart for chart in report.charts}
    assert charts.keys() == {
        "p99-over-rate",
        "p50-over-rate",
        "mean-over-rate",
        "goodput-over-rate",
        "exits",
    }
    default, baseline = charts["p99-over-rate"].series
    assert len(default.x) == 8  # and the rate at which both are compared
    assert len(baseline.x) == 7
    assert list(default.x) == sorted(default.x)
    sheet = report.sheets[0]
    assert len(sheet.rows) == 15
    assert [row[1] for row in sheet.rows if row[0] == "never"][:2] == ["0.3", "0.5"]
    assert ("default", "0.7 of never") in [row[:2] for row in sheet.rows]


def test_two_points_of_a_sweep_may_have_the_same_rate() -> None:
    sent = [Outcome(0, 0.1, 0.1, 0.1 + late_s, None, READING) for late_s in (0.1, 0.2, 0.3)]
    some, more = (measure(Run(tuple(of), 0.0, 1.0, True, 0.1), LABELS) for of in (sent[1:], sent))
    point = Point("default", 20.0, 0.7, "default")
    charts = rate_charts({point: [some], replace(point, of="never"): [more]}, {}, None, None)
    assert charts[0].series[0].x == (20.0, 20.0)


def test_what_fails_is_reported_and_has_no_latency() -> None:
    settings = load_settings(rate=500, seconds=0.2, warm_up=0.0, repeats=2, policy="default")
    target = AtOnce(1, LABELS, error="queue_full")
    report = bench_load(settings, _opened(settings, default=target))
    assert report.figures["default.errors"].median == 1.0
    assert report.not_measured["default.p99_ms"] == "a repeat had no answer"
    (sheet,) = [sheet for sheet in report.sheets if sheet.title == "Errors"]
    assert sheet.rows == (("default", 500.0, "queue_full", len(target.sent)),)
    assert report.charts == ()


def test_a_sweep_of_what_answers_nothing_is_refused() -> None:
    settings = load_settings(rate="sweep", seconds=0.1, warm_up=0.0, repeats=1, policy="never")
    target = AtOnce(1, LABELS, error="queue_full")
    with pytest.raises(ConfigError, match=r"never answered nothing at saturation \(queue_full\)"):
        bench_load(settings, _opened(settings, never=target))


def test_the_synthetic_model_leaves_where_it_was_drawn_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = load_settings(
        exits="rho:.5", hidden=64, samples=24, in_flight=12, seconds=0.5, warm_up=0.0, repeats=1
    )
    with open_targets(settings) as opened:
        report = bench_load(settings, opened)
    assert report.figures["default.rho"].median == pytest.approx(0.5, abs=0.06)
    assert report.figures["never.rho"].median == 1.0
    assert not any("agreement" in name for name in report.figures)
