"""The simulator beside the engine: the same scheduler, the same batches, costs from its trace."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exeunt.bench.load.drawn_target import DrawnTarget
from exeunt.bench.report import Report
from exeunt.bench.simulate import (
    CostFile,
    Line,
    Measurable,
    read_costs,
    simulation_settings,
    write_costs,
)
from exeunt.bench.simulate.bench import bench_comparison, measure_costs
from exeunt.bench.simulate.calibrate import calibrate
from exeunt.bench.simulate.simulator import simulated_scheduler
from exeunt.bench.workloads import drawn_policies
from exeunt.engine import Engine, EngineConfig
from exeunt.engine import calibration as calibration_module
from exeunt.engine import engine as engine_module
from exeunt.engine import worker as worker_module
from exeunt.engine.backends.base import LoadedSegment, Tensors, bind_by_copy
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import ConfigError
from exeunt.engine.pending import Pending
from exeunt.engine.trace import Trace, TracedBatch
from exeunt.server.cli import main
from tests.bench.simulated import costs, lane, serve
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors

LAYERS = 4
FAKE = {"backend": "fake", "sizes": {"T": (5,)}}
ALPHA_S, BETA_S = 2.0**-9, 2.0**-8  # sums of these are exact: both clocks show equal times


class VirtualTime:
    """A clock that only segments move: each takes ALPHA_S + BETA_S a row.

    Requests that come due while a segment runs are submitted from inside it, as another thread
    would; when the engine is through with all it has, time jumps to the next one.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self.now_s

    def spend(self, seconds: float) -> None:
        self.submit_until(self.now_s + seconds)

    def submit_until(self, end_s: float) -> None:
        while self.due and self.due[0][0] <= end_s:
            self.now_s, submit = self.due.pop(0)
            submit()
        self.now_s = end_s


class TimedBackend:
    """The fake backend, whose entry and layers take virtual time."""

    name = "fake"
    compiles_shapes = False

    def __init__(self, clock: VirtualTime) -> None:
        self.clock = clock
        self.inner = FakeBackend()

    def load(self, manifest: Manifest, root: Path, segment: str) -> LoadedSegment:
        inner = self.inner.load(manifest, root, segment)
        is_free = manifest.segments[segment].kind == "head"
        return inner if is_free else _TimedSegment(self.clock, inner)

    def close(self) -> None:
        self.inner.close()


class _TimedSegment:
    def __init__(self, clock: VirtualTime, inner: LoadedSegment) -> None:
        self._clock = clock
        self._inner = inner

    def run(self, inputs: Tensors) -> Tensors:
        self._clock.spend(ALPHA_S + BETA_S * len(next(iter(inputs.values()))))
        return self._inner.run(inputs)

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        return bind_by_copy(self, inputs, outputs)


def served(
    monkeypatch: pytest.MonkeyPatch,
    times_s: list[float],
    exits: list[int],
    config: dict[str, object],
) -> tuple[Trace, CostFile]:
    """Serve requests at virtual times; return the engine's trace and the costs that it ran at."""
    clock, manifest = VirtualTime(), single_stream(layers=LAYERS)
    virtual = SimpleNamespace(monotonic=clock.monotonic, perf_counter=clock.monotonic)
    for module in (calibration_module, engine_module, worker_module):
        monkeypatch.setattr(module, "time", virtual)
    ended = threading.Semaphore(0)
    left = len(times_s)
    with Engine.open(
        fake_bundle(manifest), {**FAKE, **config}, backend=TimedBackend(clock)
    ) as engine:
        policies, tensors = drawn_policies(engine), random_tensors(manifest, 1)
        sample = {name: array[0] for name, array in tensors.items()}
        ticket = engine.reserve(len(times_s))

        def on_end(_: object) -> None:
            nonlocal left
            left -= 1
            if engine.queued_rows == left and clock.due and engine.queued_rows == len(clock.due):
                clock.submit_until(clock.due[0][0])  # nobody is under way
            ended.release()

        def submit(layer: int) -> None:
            pending: Pending = engine.submit_tensors(ticket, sample, exit_policy=policies[layer])
            pending.add_done_callback(on_end)

        clock.now_s = 0.0
        clock.due = [
            (at, lambda layer=layer: submit(layer))  # type: ignore[misc]
            for at, layer in zip(times_s, exits, strict=True)
        ]
        trace = engine.start_trace()
        clock.submit_until(clock.due[0][0])
        for _ in times_s:
            assert ended.acquire(timeout=20.0), "the engine stopped answering"
        engine.stop_trace()
        assert engine.costs is not None
        planned = engine.costs.stages
    found = lane(layers=LAYERS, alpha_s=ALPHA_S, beta_s=BETA_S)
    names = ["embed", *manifest.lanes[0].layers]
    stages = tuple(
        stage.model_copy(update={"segment": name, "planned": Line.of(planned[0, place])})
        for place, (stage, name) in enumerate(zip(found.stages, names, strict=True))
    )
    return trace, costs(found.model_copy(update={"stages": stages}))


def steps(seed: int, count: int, mean: float) -> list[float]:
    """Return arrival times in whole 4096ths of a second, no two alike, the first at 0."""
    gaps = np.random.default_rng(seed).exponential(mean * 4096, count - 1)
    return [0.0, *(np.cumsum(np.maximum(1, np.rint(gaps))) / 4096).tolist()]


@pytest.mark.parametrize(
    ("mean_s", "config", "reasons"),
    [
        (0.100, {"max_batch_rows": 8}, {"deepest"}),
        (0.030, {"max_batch_rows": 8, "min_batch_rows": 3}, {"deepest", "worthwhile"}),
        (0.012, {"max_batch_rows": 4, "max_resident_rows": 9}, {"deepest", "worthwhile"}),
        (0.018, {"max_batch_rows": 8, "max_wait_s": 0.04}, {"aged", "worthwhile"}),
        (0.018, {"max_batch_rows": 8, "latency_target_s": 0.125}, {"deadline", "worthwhile"}),
    ],
    ids=["hardly loaded", "loaded", "overloaded", "ageing", "deadlines"],
)
def test_the_simulator_chooses_the_batches_that_the_engine_chooses(
    mean_s: float, config: dict[str, object], reasons: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = steps(seed=1, count=150, mean=mean_s)
    exits = np.random.default_rng(2).integers(1, LAYERS + 1, len(times)).tolist()
    real, given = served(monkeypatch, times, exits, config)
    _, simulated = serve(given, times, [(layer,) for layer in exits], config)

    def vars_of(one: TracedBatch) -> tuple[object, ...]:
        times = (one.started_s, one.ended_s)
        return *times, one.segment, one.layer, one.reason, one.requests

    def told(trace: Trace) -> list[tuple[object, ...]]:
        return [
            (
                b.started_s,
                b.ended_s,
                b.segment,
                b.layer,
                b.reason,
                b.requests,
                tuple(n for n, _ in b.left),
            )
            for b in trace.batches
        ]

    assert told(simulated) == told(real)
    assert reasons <= {one.reason for one in real.batches}


@pytest.mark.parametrize(
    "config",
    [
        {"max_batch_rows": 8},
        {"max_batch_rows": 16, "min_batch_rows": 5, "max_wait_s": 0.5},
        {"max_batch_rows": 8, "max_queued_rows": 20, "max_resident_rows": 12},
    ],
)
def test_the_simulator_schedules_as_the_engine_is_set_up_to(config: dict[str, object]) -> None:
    """The engine keeps its scheduler to itself: here alone somebody looks."""
    with Engine.open(fake_bundle(single_stream(layers=LAYERS)), {**FAKE, **config}) as e:
        target = DrawnTarget(e, samples(e), [1, 2, LAYERS])
        found = calibrate(e, target, seconds=0.02)
        ours, theirs = simulated_scheduler(found, e.config), e._worker.scheduler
    assert ours._settings == theirs._settings
    assert ours._table == theirs._table
    assert ours._max_batch_rows == theirs._max_batch_rows


def samples(engine: Engine) -> list[dict[str, Any]]:
    tensors = random_tensors(engine.manifest, 1)
    return [{name: array[0] for name, array in tensors.items()}]


def test_costs_are_measured_while_the_engine_serves(tmp_path: Path) -> None:
    settings = simulation_settings({}, {"backend": "fake", "max_batch_rows": 4})
    found = measure_costs(Measurable(), settings, 0.1)
    (only,) = found.lanes
    assert [stage.layer for stage in only.stages] == list(range(5))
    assert all(stage.alpha_s + stage.beta_s > 0 and stage.planned for stage in only.stages)
    assert found.own.step_s + found.own.row_s > 0
    assert found.measured_rows == 4
    file = tmp_path / "costs.json"
    write_costs(found, file)
    assert read_costs(file) == found


def test_a_comparison_has_both_sides_and_the_errors() -> None:
    load = {"rate": 50.0, "seconds": 0.5, "warm_up": 0.1, "repeats": 2}
    settings = simulation_settings(load, {"backend": "fake", "max_batch_rows": 4})
    report, found = bench_comparison(Measurable(), settings, 0.05)
    names = {f"{side}.{name}" for side in ("predicted", "measured") for name in ("mean_ms", "rho")}
    assert names | {"error.mean_ms", "error.p99_ms"} <= set(report.figures)
    assert report.figures["predicted.rho"] == report.figures["measured.rho"]
    assert found.depth == 4


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])
    return int(ended.value.code or 0)


def test_the_command_reads_costs_and_prints_a_report(tmp_path: Path, capsys: Any) -> None:
    file, trace = tmp_path / "costs.json", tmp_path / "trace.json"
    write_costs(costs(), file)
    arguments = ["--costs", str(file), "--rate", "50", "--seconds", "5", "--trace", str(trace)]
    assert _run(*arguments, "--json") == 0
    report = Report.model_validate_json(capsys.readouterr().out)
    assert report.figures["simulated.requests_per_second"].median == pytest.approx(50, rel=0.3)
    assert {sheet.title.split(",")[0] for sheet in report.sheets} == {
        "Batches by layer",
        "Why each batch ran",
    }
    assert json.loads(trace.read_text())["traceEvents"]
    assert _run(*arguments) == 0
    assert "requests/s" in capsys.readouterr().out


def test_the_command_measures_costs_and_saves_them(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "costs.json"
    arguments = ["--backend", "fake", "--measure-seconds", "0.05", "--max-batch-rows", "4"]
    assert _run(*arguments, "--in-flight", "8", "--seconds", "1", "--save-costs", str(file)) == 0
    assert "simulated.p99_ms" in capsys.readouterr().out
    assert read_costs(file).measured_rows == 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rate", "0"], "--rate is 0"),
        (["--rate", "5", "--in-flight", "3"], "leave --in-flight out"),
        (["--arrivals", "trace:none.csv"], "cannot read the trace none.csv"),
        (["--exits", "some"], "unknown exits 'some'"),
        (["--max-batch-rows", "0"], "max_batch_rows"),
        (["--max-batch-rows", "2000"], "max_queued_rows is 1024"),
        (["--max-resident-rows", "4"], "max_resident_rows is 4"),
        (["--in-flight", "5000"], "the engine holds 1024 requests"),
        (["--hidden", "64"], "leave --hidden out, or --costs"),
        (["--against-measurement"], "leave --against-measurement out, or --costs"),
        (["--save-costs", "x"], "leave --save-costs out, or --costs"),
        (["--trace", "/nowhere/x.json"], "cannot write the trace"),
    ],
)
def test_the_command_refuses_in_one_line(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "costs.json"
    write_costs(costs(), file)
    assert _run("--costs", str(file), "--seconds", "2", *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert complaint in shown.err
    assert "Traceback" not in shown.err


def test_a_bundle_and_a_width_contradict_each_other(capsys: Any) -> None:
    assert _run("my-bundle", "--hidden", "64") == 2
    assert "leave the bundle out, or --hidden" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"lanes": []}, "at lanes"),
        ({"own": {"step_s": -1.0, "row_s": 0.0, "request_s": 0.0}}, "at own.step_s"),
        ({"format": 2}, "at format"),
        ({"speed": 2}, "at speed"),
        ({"lanes": [lane().model_dump(), lane().model_dump()]}, "two lanes are named 'joint'"),
        ({"lanes": [lane(join=("image",)).model_dump()]}, "joins 'image', which does not come"),
        (
            {"lanes": [lane("a").model_dump(), lane("b").model_dump()]},
            "no lane joins 'a': put the answering lane last",
        ),
        ({"lanes": [lane(layers=0).model_dump()]}, "has no layers"),
        (
            {"lanes": [{**lane().model_dump(), "stages": lane().model_dump()["stages"][::-1]}]},
            "expected zeros, then 1, 2, 3",
        ),
    ],
)
def test_wrong_costs_are_refused(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps({**costs().model_dump(), **change}))
    with pytest.raises(ConfigError, match=complaint):
        read_costs(file)


def test_costs_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--save-costs FILE"):
        read_costs(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("not JSON")
    with pytest.raises(ConfigError, match=r"text\.json"):
        read_costs(tmp_path / "text.json")


def test_an_engine_that_was_not_warmed_cannot_be_measured() -> None:
    config = EngineConfig(backend="fake", warm_up=False)
    with Engine.open(fake_bundle(single_stream(layers=LAYERS)), config) as engine:
        target = DrawnTarget(engine, samples(engine), [1])
        with pytest.raises(ConfigError, match="warm it up"):
            calibrate(engine, target)


def test_a_layer_that_no_request_reached_is_not_guessed() -> None:
    with Engine.open(fake_bundle(single_stream(layers=LAYERS)), FAKE) as engine:
        target = DrawnTarget(engine, samples(engine), [1])
        with pytest.raises(ConfigError, match=r"layer\.02 hardly ran"):
            calibrate(engine, target, seconds=0.02)
