"""`exeunt bench load`: its settings, its output, and how it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from exeunt.bench.load.settings import Arrivals, load_settings
from exeunt.bench.report import read_report
from exeunt.engine.errors import ConfigError
from exeunt.server.cli import main

# Two threads, as every engine of the tests' process has.
SMALL = ["--samples", "8", "--seconds", "0.4", "--warm-up", "0.05", "--threads", "2"]


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"rate": "0"}, "--rate is 0"),
        ({"rate": "-5"}, "--rate is -5"),
        ({"rate": "nan"}, "--rate: Input should be a finite number"),
        ({"rate": "inf"}, "--rate: Input should be a finite number"),
        ({"rate": "fast"}, "--rate: Input should be a valid number"),
        ({"seconds": -1.0}, "--seconds: Input should be greater than 0"),
        ({"seconds": float("nan")}, "--seconds: Input should be a finite number"),
        ({"warm_up": -1.0}, "--warm-up: Input should be greater than or equal to 0"),
        ({"slo_ms": 0.0}, "--slo-ms: Input should be greater than 0"),
        ({"hidden": 128}, "--hidden belongs to --exits"),
        ({"exits": "rho:.5", "over": "http"}, "--exits draws exits in this process"),
        ({"exits": "rho:.5", "data": "demo"}, "leave data out"),
        ({"shares": [".5"]}, "--shares belongs to --rate sweep"),
        ({"rate": "sweep", "shares": [".7", ".5"]}, "--shares expects numbers over 0, ascending"),
        ({"rate": "sweep", "shares": ["0"]}, "--shares expects numbers over 0, ascending"),
        ({"repeats": 0}, "--repeats: Input should be greater than or equal to 1"),
        ({"in_flight": 0}, "--in-flight: Input should be greater than or equal to 1"),
        ({"samples": 0}, "--samples: Input should be greater than or equal to 1"),
        ({"seed": -1}, "--seed: Input should be greater than or equal to 0"),
        ({"loop": "both"}, "--loop: Input should be 'closed' or 'open'"),
        ({"loop": "open"}, "an open loop needs --rate"),
        ({"loop": "closed", "rate": "5"}, "leave --rate out, or use --loop open"),
        ({"loop": "closed", "arrivals": "gamma"}, "a closed loop has no arrivals"),
        ({"rate": "5", "in_flight": 3}, "leave --in-flight out"),
        (
            {"rate": "5", "arrivals": "weibull"},
            "unknown arrivals 'weibull': expected one of poisson",
        ),
        ({"rate": "5", "arrivals": "trace"}, "unknown arrivals 'trace'"),
        ({"rate": "5", "arrivals": "trace:a.csv"}, "a trace has its own rate"),
        ({"rate": "5", "burstiness": 2.0}, "--burstiness belongs to --arrivals gamma"),
        ({"rate": "5", "arrivals": "gamma", "burstiness": 0.0}, "--burstiness: Input should be gr"),
        ({"rate": "5", "speed": 2.0}, "--speed belongs to --arrivals trace:FILE"),
        ({"url": "http://127.0.0.1:1"}, "add --over http"),
        ({"over": "http", "url": "127.0.0.1:1"}, "expected http://HOST:PORT"),
        ({"over": "http", "url": "http://a", "threads": 2}, "has its own threads: leave it out"),
        ({"over": "http", "url": "http://a", "bundle": Path("b")}, "has its own bundle"),
        ({"over": "tcp"}, "--over: Input should be 'engine' or 'http'"),
        ({"policy": "always"}, "--policy: Input should be"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(**options)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rate", "0"], "--rate is 0"),
        (["--data", "nothing"], "no data 'nothing'"),
        (["--arrivals", "trace:none.csv"], "cannot read the trace none.csv"),
        (["--backend", "abacus"], "abacus"),
        (["--in-flight", "5000"], "but the engine holds 1024 requests"),
        (["--rate", "1e9", "--seconds", "80000"], "lower the rate or the duration"),
    ],
)
def test_the_command_refuses_in_one_line(arguments: list[str], complaint: str, capsys: Any) -> None:
    assert _run("load", *SMALL, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert complaint in shown.err
    assert "Traceback" not in shown.err


def test_a_trace_decides_rate_and_duration(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("timestamp_s\n" + "".join(f"{place / 10}\n" for place in range(41)))
    settings = load_settings(arrivals=f"trace:{file}", warm_up=1.0, speed=2.0)
    assert settings.is_open
    arrivals = Arrivals(settings)
    assert arrivals.seconds == pytest.approx(1.0)
    assert len(arrivals.schedule(None, 0)) == 41
    cut = Arrivals(load_settings(arrivals=f"trace:{file}", warm_up=1.0, seconds=2.0))
    assert len(cut.schedule(None, 0)) == 31
    with pytest.raises(ConfigError, match="lower --warm-up or --speed"):
        Arrivals(load_settings(arrivals=f"trace:{file}", warm_up=4.0))


def test_repeats_draw_anew_and_policies_share_a_draw() -> None:
    arrivals = Arrivals(load_settings(rate=100, seconds=1.0, seed=5))
    first, again, other = (arrivals.schedule(100.0, repeat).times_s for repeat in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_a_closed_loop_is_reported(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert _run("load", *SMALL, "--repeats", "2", "--in-flight", "4", "--out", str(out)) == 0
    shown = capsys.readouterr()
    assert "default.requests_per_second" in shown.out
    assert "speed_up" in shown.out
    assert "repeat 2 of 2" not in shown.out  # progress goes to the other stream
    written = sorted(file.name for file in out.iterdir())
    assert written == ["exits.png", "latency.png", "report.html", "report.json"]
    report = read_report(out / "report.json")
    runs: Any = report.details["runs"]
    assert [(one["policy"], one["repeat"]) for one in runs] == [
        ("default", 0),
        ("default", 1),
        ("never", 0),
        ("never", 1),
    ]
    assert report.workload["in_flight"] == 4
    assert _run("compare", *[str(out / "report.json")] * 2) == 0


def test_an_open_loop_is_reported_as_json(capsys: Any) -> None:
    arguments = ["--rate", "100", "--policy", "default", "--repeats", "1", "--slo-ms", "1000"]
    assert _run("load", *SMALL, *arguments, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["figures"]["default.errors"]["median"] == 0.0
    assert "default.goodput" in report["figures"]
    assert "speed_up" not in report["figures"]
    assert report["workload"]["rate"] == 100
    assert any("a p99 needs 100" in problem for problem in report["problems"])


def test_a_trace_is_replayed(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "a.csv"
    rows = "".join(f"{place / 100},{place + 6}\n" for place in range(20))
    file.write_text(f"timestamp_s,sample\n{rows}")  # samples beyond the 8 start again
    arguments = ["--arrivals", f"trace:{file}", "--policy", "never", "--repeats", "1", "--json"]
    assert _run("load", "--samples", "8", "--threads", "2", "--warm-up", "0.1", *arguments) == 0
    report = json.loads(capsys.readouterr().out)
    (run,) = report["details"]["runs"]
    assert (run["requests"], run["answered"]) == (10, 10)


@pytest.mark.parametrize("name", ["load", "compare", "demo"])
def test_every_command_has_examples(name: str, capsys: Any) -> None:
    assert _run(name, "--help") == 0
    assert f"exeunt bench {name}" in capsys.readouterr().out
