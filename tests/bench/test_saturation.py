"""The saturation bench: its measures on known numbers, and a small run from end to end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from exeunt.bench.report import read_report
from exeunt.bench.saturation import bench_saturation, saturation_settings
from exeunt.bench.saturation.measures import occupancy_rho, phi, realised_savings
from exeunt.engine.errors import ConfigError
from exeunt.server.cli.app import app

SMALL = {"hidden": 64, "layers": 3, "samples": 32, "batch_rows": 4, "repeats": 1, "threads": 2}


def test_the_ideal_engine_saves_all_that_exits_save() -> None:
    assert realised_savings(2.0, 0.5) == 1.0
    assert phi(2.0, 0.5) == 1.0
    assert phi(1.0, 0.5) == 0.0
    assert phi(0.9, 0.5) == pytest.approx(-0.1)
    assert phi(1.06, 0.951) is None


def test_the_occupancy_bound_pays_for_exit_checks() -> None:
    exits = np.array([1, 1, 2, 4])
    layers = [1.0, 1.0, 1.0, 1.0]
    assert occupancy_rho(exits, layers, {}) == pytest.approx(exits.mean() / 4)
    free_last = occupancy_rho(exits, layers, dict.fromkeys(range(1, 5), 0.1))
    assert free_last == pytest.approx(1.1 * exits.mean() / 4)
    assert occupancy_rho(exits, [3.0, 1.0, 1.0, 1.0], {}) == pytest.approx((3 + 0.5 + 0.25 * 2) / 6)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "exeunt" / "bench"  # where the command looks, too


@pytest.mark.parametrize("exits", ["uniform", "last"])
def test_a_small_run(exits: str, cache: Path) -> None:
    settings = saturation_settings({**SMALL, "exits": exits, "peers": ("compact", "consensus")})
    report = bench_saturation(settings, cache_dir=cache).as_json()
    json.dumps(report)
    assert set(report["peers"]) == {"static", "compact", "consensus"}
    assert report["requests_per_second"] > 0
    if exits == "last":
        assert report["rho"] == 1.0
        assert report["phi"] is None
        full = report["peers"]["static"]["speed_up"]
        assert report["loss_at_zero_exits"] == pytest.approx(1 - full)
    else:
        assert 0.4 < report["rho"] < 0.9
        assert report["loss_at_zero_exits"] is None
        ratio = report["peers"]["static"]["speed_up"] * report["rho"]
        assert report["realised_savings"] == pytest.approx(ratio)
        assert report["peers"]["compact"]["rho"] == pytest.approx(2 / 3, abs=0.02)
    assert 0 < report["scheduler_share"] < 1
    assert sum(report["step_shares"].values()) == pytest.approx(1.0, abs=0.01)


def test_two_streams_from_the_command_to_its_files(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    trace, out = tmp_path / "trace.json", tmp_path / "out"
    small = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    arguments = ["--backend", "openvino", "--streams", "2", "--peers", "compact", "--json"]
    done = CliRunner().invoke(
        app, ["bench", "engine", *small, *arguments, "--trace", str(trace), "--out", str(out)]
    )
    assert done.exception is None, done.output
    found = json.loads(done.stdout)
    assert found.keys() >= {
        *("realised_savings", "phi", "rho", "phi_b", "loss_at_zero_exits"),
        *("requests_per_second", "peers"),
    }
    assert found["peers"]["static"]["settings"]["callers"] in (1, 2)
    tried = found["static_search_s_per_sample"]
    assert {"default, 4 rows", "default, 4 rows, 2 callers"} <= tried.keys()

    fill = found["batch_fill"]
    assert list(fill) == ["0", "1", "2", "3"]
    assert all(0 < share <= 1 for share in fill.values())
    assert sum(found["exit_shares"]) == pytest.approx(1)
    assert 2**20 < found["peak_memory_bytes"] < 2**40

    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    rows = sum(event["args"]["rows"] for event in events if event["ph"] == "X")
    layers = sum(found["exit_shares"][layer - 1] * layer for layer in (1, 2, 3))
    # Every counted sample is in a slice for each layer that it ran, and in that of the entry.
    assert rows > SMALL["samples"] * layers

    report = read_report(out / "report.json")
    assert report.figures["realised_savings"].median == found["realised_savings"]
    assert report.figures["batch_fill.0"].median == fill["0"]
    assert report.details["peak_memory_bytes"] == found["peak_memory_bytes"]
    assert report.figures["exeunt_over.compact"].unit == "x"
    assert "loss_at_zero_exits" in report.not_measured
    names = {"requests-per-second", "speed-up", "exits", "batch-fill", "step"}
    assert {chart.name for chart in report.charts} == names
    for name in names:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "2 streams" in (out / "report.html").read_text(encoding="utf-8")


STREAMS = """
import json, sys
from pathlib import Path
from exeunt.bench.saturation import bench_saturation, saturation_settings
if __name__ == "__main__":
    settings = saturation_settings(json.loads(sys.argv[1]))
    print(json.dumps(bench_saturation(settings, cache_dir=Path(sys.argv[2])).as_json()))
"""


def test_two_streams_under_onnxruntime_have_peers_in_processes_of_their_own(
    cache: Path, tmp_path: Path
) -> None:
    """In a process of its own: the pool of this one is of another size."""
    script = tmp_path / "streams.py"
    script.write_text(STREAMS, encoding="utf-8")
    given = json.dumps({**SMALL, "streams": 2, "peers": ("compact",)})
    done = subprocess.run(
        [sys.executable, str(script), given, str(cache)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    callers = {name.endswith("2 callers") for name in found["static_search_s_per_sample"]}
    assert callers == {True, False}
    assert found["peers"]["compact"]["settings"]["processes"] == 1
    assert found["peers"]["compact"]["rho"] == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"exits": "zipf"}, "unknown exits 'zipf'"),
        ({"samples": 8, "batch_rows": 16}, "8 samples are fewer than four batches"),
        ({"batch_rows": 0}, "batch_rows"),
        ({"peers": ("vllm",)}, "peers"),
        ({"precision": "bf16", "backend": "onnxruntime"}, "fp32 alone"),
        ({"repeats": 0}, "repeats"),
        ({"streams": 3}, "2 compute threads cannot be shared out evenly among 3 streams"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    settings: dict[str, object], what: str, cache: Path
) -> None:
    with pytest.raises(ConfigError, match=what):
        bench_saturation(saturation_settings({**SMALL, **settings}), cache_dir=cache)


def test_a_trace_that_could_not_be_written_is_refused_before_anything_runs(
    tmp_path: Path, cache: Path
) -> None:
    with pytest.raises(ConfigError, match="there is no directory"):
        bench_saturation(
            saturation_settings(SMALL), trace=tmp_path / "no" / "trace.json", cache_dir=cache
        )


def test_the_command_names_a_workload_that_is_not_there() -> None:
    done = CliRunner().invoke(app, ["bench", "engine", "--workload", "bert"])
    assert isinstance(done.exception, ConfigError)
    assert "uniter-base" in str(done.exception)
