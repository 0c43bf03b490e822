"""Peers over HTTP: the pieces, and a small run of our own server from end to end."""

import base64
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from exeunt.bench.http_peers import bench_http, environment, http_settings, prepare
from exeunt.bench.http_peers.bodies import AnswerTarget, json_bodies
from exeunt.bench.http_peers.environment import requirements
from exeunt.bench.http_peers.process import ServedProcess, free_port
from exeunt.bench.http_peers.report import FACTORS
from exeunt.bench.http_peers.running import burst_rate
from exeunt.bench.http_peers.tuning import Search, Tuning
from exeunt.bench.load.http import HttpClient
from exeunt.bench.load.outcome import Outcome, Reading, Run
from exeunt.bench.report import report_json, report_table
from exeunt.bench.workloads import UniterConfig, uniter_config
from exeunt.bench.workloads.calibrated import layer_thresholds
from exeunt.bench.workloads.patches_bundle import patches_bundle
from exeunt.bench.workloads.pictures import draw_requests
from exeunt.engine import Engine
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import ConfigError
from exeunt.server.cli.app import app

SMALL = {
    "hidden": 64,
    "layers": 2,
    "exits": "rho:.75",
    "backend": "onnxruntime",
    "requests": 24,
    "in_flight": (8,),
    "search": False,
    "repeats": 1,
    "seconds": 1.0,
    "warm_up_s": 0.3,
    "threads": 2,
}
WORDS = 28


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench-cache")


def test_thresholds_let_the_wanted_numbers_leave() -> None:
    random = np.random.default_rng(0)
    scores = random.random((4, 40), dtype=np.float32)
    thresholds, left = layer_thresholds(scores, np.array([10, 0, 25, 5]))
    assert np.bincount(left, minlength=5)[1:].tolist() == [10, 0, 25, 5]
    replayed = [
        next(layer for layer in range(1, 5) if scores[layer - 1, row] < thresholds[layer - 1])
        for row in range(40)
    ]
    assert replayed == left.tolist()


def test_samples_of_one_score_leave_together() -> None:
    scores = np.array([[0.5, 0.5, 0.5, 0.9]] * 2, dtype=np.float32)
    _, left = layer_thresholds(scores, np.array([2, 2]))
    assert left.tolist() == [2, 2, 2, 2]
    _, left = layer_thresholds(scores, np.array([3, 1]))
    assert left.tolist() == [1, 1, 1, 2]
    _, left = layer_thresholds(scores, np.array([4, 0]))
    assert left.tolist() == [1, 1, 1, 1]


def test_a_bundle_takes_its_requests_and_pads_as_it_says(cache: Path) -> None:
    config = UniterConfig(hidden=64, layers=2)
    requests = draw_requests(config, 20, 96, seed=3)
    assert requests == draw_requests(config, 20, 96, seed=3)
    counts = [len(request.text.split()) for request in requests]
    assert 8 <= min(counts) < max(counts) <= WORDS
    own, padded = (patches_bundle(config, pad_to_multiple=m, cache_dir=cache) for m in (4, WORDS))
    again = patches_bundle(config, pad_to_multiple=4, cache_dir=cache)
    assert again == own
    settings = EngineConfig(threads=2, warm_up=False)
    with Engine.open(own, settings) as engine, Engine.open(padded, settings) as other:
        for request, words in zip(requests, counts, strict=True):
            sample = {"image": request.image, "text": request.text}
            tensors = engine.prepare(sample)
            assert tensors["input_ids"].shape == (-(-words // 4) * 4,)
            assert tensors["attention_mask"].sum() == words
            assert (tensors["input_ids"][:words] > 1).all()  # no word is unknown
            assert tensors["pixel_values"].shape == (3, 96, 96)
            assert np.abs(tensors["pixel_values"]).max() <= 1
            assert other.prepare(sample)["input_ids"].shape == (WORDS,)
        one, same = engine.predict(sample), other.predict(sample)
        assert one.index == same.index
        assert one.logits == pytest.approx(same.logits, abs=1e-5)


def test_patches_must_fill_a_square(cache: Path) -> None:
    with pytest.raises(ConfigError, match="35 patches fill no square"):
        patches_bundle(uniter_config(hidden=64, layers=1, regions=35), cache_dir=cache)


def test_the_search_keeps_the_best_of_each_setting() -> None:
    search = Search(Tuning(16, 0.01, 8), (4, 8), (0.01, 0.05), (1, 2), (8, 32))
    assert search.best == Tuning(16, 0.01, 32)
    rates = {Tuning(4, 0.01, 32): 5.0, Tuning(8, 0.01, 32): 7.0, Tuning(8, 0.05, 32): 6.0}
    tried = []
    for tuning in search.trials():
        tried.append(tuning)
        search.tell(tuning, rates.get(tuning, 9.0))
    assert tried == [*rates, Tuning(8, 0.01, 8)]
    assert search.best == Tuning(8, 0.01, 8)
    without = Search(Tuning(16, None, 8), (), (0.01,), (1, 2), (8,))
    assert list(without.trials()) == [Tuning(16, None, 8)]
    ours = Search(Tuning(16, None, 8, 1), (), (), (1, 2), (8,))
    for tuning in ours.trials():
        ours.tell(tuning, float(tuning.streams or 0))
    assert ours.best == Tuning(16, None, 8, 2)
    assert ours.best.served != Tuning(16, None, 8, 1).served
    assert without.is_needless
    assert not search.is_needless


def _run(done_s: list[float]) -> Run:
    reading = Reading("a", 0, 1, 1, 1, 1)
    outcomes = tuple(Outcome(0, 0.0, 0.0, done, None, reading) for done in done_s)
    return Run(outcomes, warm_up_s=1.0, seconds=4.0, open_loop=False, generator_share=0.1)


def test_the_rate_counts_whole_bursts() -> None:
    bursts = [0.5 + 1.5 * place + 1e-4 * row for place in range(5) for row in range(8)]
    assert burst_rate(_run(bursts)) == pytest.approx(8 / 1.5)
    assert burst_rate(_run(bursts[:32])) == pytest.approx(8 / 1.5, rel=0.35)  # none came after
    assert burst_rate(_run([1.5])) is None
    assert burst_rate(_run([])) is None


def test_bodies_are_the_same_but_for_a_list() -> None:
    request = draw_requests(UniterConfig(hidden=64, layers=2), 1, 96)[0]
    plain, listed = (json_bodies([request], listed=listed)[0] for listed in (False, True))
    assert json.loads(listed.content) == {"inputs": [json.loads(plain.content)]}
    assert base64.b64decode(json.loads(plain.content)["image"]) == request.image


def test_answers_with_and_without_exits_are_read() -> None:
    with HttpClient("http://127.0.0.1:1") as client:
        target = AnswerTarget(client, [], depth=12)
    assert target.read(b'{"label": "b", "index": 1}') == Reading("b", 1, 12, 12, 12, 12)
    assert target.read(b'[{"label": "b", "index": 1}]').index == 1
    ours = b'{"label": "b", "index": 1, "exit_layer": 3, "depth": 12}'
    assert target.read(ours) == Reading("b", 1, 3, 12, 3, 12)
    for wrong in (b"[]", b"{}", b'{"index": "1"}', b"null", b"{", None):
        with pytest.raises(ValueError, match=r"no answer|Expecting"):
            target.read(wrong)


def test_a_peers_environment_has_our_versions_of_what_the_model_runs_on() -> None:
    from importlib.metadata import version

    for framework in ("litserve", "bentoml", "ray"):
        wanted = requirements(framework)
        assert wanted[0].startswith(framework)
        assert "==" in wanted[0]
        assert f"onnxruntime=={version('onnxruntime')}" in wanted


def test_an_environment_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho 'ERROR: No matching distribution' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(ConfigError, match="environment for ray: ERROR: No matching distribution"):
        environment.peer_python("ray", cache_dir=tmp_path)


SPINNING = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
print("spinning", child.pid, flush=True)
child.wait()
"""


def test_a_frozen_server_takes_no_cpu_and_leaves_nothing_behind() -> None:
    command = [sys.executable, "-c", SPINNING]
    with ServedProcess("spinner", command, dict(os.environ), free_port()) as server:
        deadline_s = time.monotonic() + 30
        while not server.last_words().startswith("spinning") and time.monotonic() < deadline_s:
            time.sleep(0.02)
        child = int(server.last_words().split()[1])
        server.freeze()
        time.sleep(0.1)
        before = server.cpu_s()
        time.sleep(0.3)
        assert server.cpu_s() == before
        server.thaw()
        while server.cpu_s() <= before and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert server.cpu_s() > before
        assert server.memory_bytes() > 0
    deadline_s = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not _alive(child)


def _alive(number: int) -> bool:
    """Tell whether a process runs: one that ended may wait for its parent to ask."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] != "Z"


def test_a_server_that_ends_is_quoted() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('error: no such model')"]
    with ServedProcess("broken", command, dict(os.environ), free_port()) as server:
        deadline_s = time.monotonic() + 30
        while "model" not in server.last_words() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        time.sleep(0.2)  # its last words come before its end
        with pytest.raises(ConfigError, match="broken ended: error: no such model"):
            server.check()
    with pytest.raises(ConfigError, match="cannot be started"):
        ServedProcess("absent", ["/no/such/command"], {}, 1)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"peers": ("vllm",)}, "peers"),
        ({"peers": ("ray", "ray")}, "named twice"),
        ({"in_flight": ()}, "in_flight"),
        ({"in_flight": (4096,)}, "in_flight"),
        ({"batch_rows": 1}, "batch_rows"),
        ({"seconds": 0}, "seconds"),
        ({"precision": "int8"}, "precision"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        http_settings({**SMALL, **settings})


def test_bf16_needs_its_backend(cache: Path) -> None:
    settings = http_settings({**SMALL, "precision": "bf16"})
    with pytest.raises(ConfigError, match="bf16 needs the backend openvino"):
        bench_http(settings, cache_dir=cache)


def test_the_command_refuses_what_is_no_number() -> None:
    done = CliRunner().invoke(app, ["bench", "http", "--in-flight", "many"])
    assert isinstance(done.exception, ConfigError)
    assert "in_flight" in str(done.exception)


def test_a_small_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(framework: str, **_: object) -> Path:
        raise ConfigError(f"cannot make an environment for {framework}: no network")

    monkeypatch.setattr(prepare, "peer_python", offline)
    steps: list[str] = []
    settings = http_settings({**SMALL, "peers": ("litserve", "litserve-best")})
    report = bench_http(settings, cache_dir=cache, progress=steps.append)
    report_table(report)
    assert json.loads(report_json(report))["figures"].keys() == report.figures.keys()
    names = ("exeunt", "exeunt-one-length", "exeunt-full-depth", "exeunt-plain")
    for name in names:
        assert report.figures[f"{name}.requests_per_second"].median > 0
        assert report.figures[f"{name}.errors"].median == 0
        assert report.figures[f"{name}.server_cpu"].median > 0
        assert 0 < report.figures[f"{name}.client_cpu"].median < 1
    # Calibrated on the very requests; the window cuts their order somewhere.
    assert report.details["calibrated_rho"] == {"exeunt": 0.75, "exeunt-one-length": 0.75}
    assert report.figures["exeunt.rho"].median == pytest.approx(0.75, abs=0.05)
    assert "exeunt-plain.rho" not in report.figures
    # One model in one precision: at full depth every answer is the same.
    assert report.figures["exeunt-full-depth.agreement"].median == 1.0
    for name in ("litserve", "litserve-best"):
        assert "no network" in report.not_measured[f"exeunt_over.{name}"]
    against = [factor for factor, pair in FACTORS.items() if "litserve" in str(pair[:2])]
    assert {f"factor.{factor}" for factor in against} <= report.not_measured.keys()
    product = np.prod([report.figures[f"factor.{f}"].median for f in FACTORS if f not in against])
    rates = [report.figures[f"{name}.requests_per_second"].median for name in (names[0], names[3])]
    assert product == pytest.approx(rates[0] / rates[1])
    assert any("starting exeunt-plain" in step for step in steps)
