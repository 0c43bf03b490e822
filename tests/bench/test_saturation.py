"""The saturation bench: its measures on known numbers, and a small run from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

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
    return tmp_path_factory.mktemp("bench-cache")


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


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"exits": "zipf"}, "unknown exits 'zipf'"),
        ({"samples": 8, "batch_rows": 16}, "8 samples are fewer than four batches"),
        ({"batch_rows": 0}, "batch_rows"),
        ({"peers": ("vllm",)}, "peers"),
        ({"precision": "bf16", "backend": "onnxruntime"}, "fp32 alone"),
        ({"repeats": 0}, "repeats"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    settings: dict[str, object], what: str, cache: Path
) -> None:
    with pytest.raises(ConfigError, match=what):
        bench_saturation(saturation_settings({**SMALL, **settings}), cache_dir=cache)


def test_the_command_names_a_workload_that_is_not_there() -> None:
    done = CliRunner().invoke(app, ["bench", "engine", "--workload", "bert"])
    assert isinstance(done.exception, ConfigError)
    assert "uniter-base" in str(done.exception)
