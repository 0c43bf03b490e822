"""Evaluation and the demo bench on the embedded bundle."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from exeunt.bench.data import LabelledSample, load_data
from exeunt.bench.demo import bench_demo
from exeunt.bench.evaluation import evaluate, open_reference
from exeunt.bench.evaluation.evaluate import answer_all
from exeunt.bench.evaluation.plot import plot_exits
from exeunt.bench.evaluation.report import Outcome, summarise
from exeunt.engine import Engine
from exeunt.engine.backends.openvino.library import capabilities
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import ExitPolicy, never
from exeunt.server.cli import main
from exeunt.train.demo.data import load_split

needs_bf16 = pytest.mark.skipif("BF16" not in capabilities(), reason="this CPU has no bfloat16")
AT_ONCE: dict[str, object] = {
    "version": 1,
    "tasks": {"default": {"joint": {"any": [{"criterion": "entropy", "threshold": 10.0}]}}},
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.open(config={"threads": 2}) as opened:
        yield opened


@pytest.fixture(scope="module")
def samples() -> Sequence[LabelledSample]:
    return load_split("test", num_statements=300)[-700:]


def test_evaluation_agrees_with_asking_one_by_one(
    engine: Engine, samples: Sequence[LabelledSample]
) -> None:
    some = samples[::7]
    report = evaluate(engine, some, engine.policy, "demo")
    answers = [engine.predict({"image": s.image, "text": s.text}) for s in some]
    right = sum(a.label == s.label for a, s in zip(answers, some, strict=True))
    assert report.accuracy == right / len(some)
    assert report.rho == sum(a.exit_layer for a in answers) / sum(a.depth for a in answers)
    assert sum(report.exits.values()) == len(some)
    assert set(report.kinds) >= {"question", "statement"}
    assert report.time_saved == 1 - report.seconds / (report.never_seconds or 0)


def test_never_runs_every_layer(engine: Engine, samples: Sequence[LabelledSample]) -> None:
    report = evaluate(engine, samples[:50], never(), "demo")
    assert report.rho == 1.0
    assert report.exits == {
        **dict.fromkeys(range(1, engine.manifest.lanes[0].depth), 0),
        engine.manifest.lanes[0].depth: 50,
    }
    assert report.never_seconds is None
    assert report.time_saved is None


def test_agreement_is_with_full_depth_in_fp32_under_onnx_runtime(
    engine: Engine, samples: Sequence[LabelledSample]
) -> None:
    some = samples[::5]  # questions and statements: layer 1 misses some of the latter
    policy = ExitPolicy.model_validate(AT_ONCE)
    config = EngineConfig(backend="openvino", threads=1)
    reference_config = {"threads": 2}  # as the module's engine: one pool a process
    with (
        Engine.open(config=config) as judged,
        open_reference(None, config.model_copy(update=reference_config)) as reference,
    ):
        report = evaluate(judged, some, policy, "demo", reference=reference)
    full, first = engine.compile(never()), engine.compile(policy)
    inputs = [engine.prepare({"image": s.image, "text": s.text}) for s in some]
    expected = answer_all(engine, inputs, full)
    same = sum(
        a.label == e.label for a, e in zip(answer_all(engine, inputs, first), expected, strict=True)
    )
    assert len(some) / 2 < same < len(some)
    assert report.agreement == same / len(some)
    assert report.never_agreement == 1.0
    assert (report.backend, report.precision) == ("openvino", "fp32")


@needs_bf16
def test_bf16_agrees_with_fp32(engine: Engine, samples: Sequence[LabelledSample]) -> None:
    config = {"backend": "openvino", "precision": "bf16", "threads": 1}
    with Engine.open(config=config) as judged:
        report = evaluate(judged, samples, never(), "demo", reference=engine)
    assert report.agreement is not None
    assert report.agreement >= 0.99
    assert report.never_agreement is None


@pytest.mark.parametrize(
    ("backend", "precision", "needed"),
    [
        ("onnxruntime", "fp32", False),
        ("fake", "fp32", False),
        ("torch", "fp32", True),
        ("openvino", "fp32", True),
        ("openvino", "bf16", True),
    ],
)
def test_a_reference_is_opened_where_the_engine_is_another(
    backend: str, precision: str, needed: bool
) -> None:
    config = EngineConfig.model_validate(
        {"backend": backend, "precision": precision, "threads": 2, "warm_up": False}
    )
    with open_reference(None, config) as reference:
        assert (reference is not None) == needed
        if reference:
            assert reference.config.backend == "onnxruntime"
            assert reference.config.precision == "fp32"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_command_tells_the_agreement(
    backend: str,
    samples: Sequence[LabelledSample],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.png").write_bytes(_png(samples))
    line = {"image": "a.png", "text": samples[0].text, "label": samples[0].label}
    (tmp_path / "data.jsonl").write_text(json.dumps(line))
    command = ["eval", "--data", str(tmp_path / "data.jsonl"), "--threads", "2"]
    arguments = [*command, "--backend", backend, "--precision", "fp32"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["backend"] == backend
    assert found["agreement"] == (1.0 if backend == "openvino" else None)
    assert found["never_agreement"] == found["agreement"]
    with pytest.raises(SystemExit):
        main(arguments)
    assert ("labels equal to those of" in capsys.readouterr().out) == (backend == "openvino")


def test_the_demo_bench_measures_both_policies(
    engine: Engine, samples: Sequence[LabelledSample]
) -> None:
    report = bench_demo(engine, samples[:200], repeats=2)
    assert report.never.rho == 1.0
    assert 0 < report.default.rho < 1.0
    assert report.default.requests_per_second > 0
    assert json.loads(json.dumps(report.as_json()))["speed_up"] == report.speed_up


def test_figures_of_known_outcomes() -> None:
    total, kinds = summarise(
        [Outcome("a/x", True, 1, 4), Outcome("a/y", False, 4, 4), Outcome("b/x", True, 1, 4)]
    )
    assert (total.accuracy, total.rho) == (2 / 3, 6 / 12)
    assert total.exits == {1: 2, 2: 0, 3: 0, 4: 1}
    assert (kinds["a"].accuracy, kinds["a"].rho) == (1 / 2, 5 / 8)
    assert set(kinds) == {"a", "a/x", "a/y", "b", "b/x"}


def test_the_histogram_is_drawn(
    engine: Engine, samples: Sequence[LabelledSample], tmp_path: Path
) -> None:
    from PIL import Image

    plot_exits(evaluate(engine, samples[:20], engine.policy, "demo"), tmp_path / "exits.png")
    with Image.open(tmp_path / "exits.png") as picture:
        assert picture.size[0] > 600
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 10


def _png(samples: Sequence[LabelledSample]) -> bytes:
    image = samples[0].image
    assert not isinstance(image, bytes)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_data_of_your_own(
    engine: Engine, samples: Sequence[LabelledSample], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(_png(samples))
    line = {"image": "a.png", "text": samples[0].text, "label": samples[0].label}
    (tmp_path / "data.jsonl").write_text(json.dumps(line) + "\n\n")
    own = load_data(str(tmp_path / "data.jsonl"))
    report = evaluate(engine, own, engine.policy, "own")
    assert report.samples == 1
    assert set(report.kinds) == {"all"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 1"),
        ("[]", "line 1"),
        ('{"image": "missing.png", "text": "a", "label": "b"}', "missing.png"),
        ('{"image": "a.png", "text": "a"}', "label"),
        ('{"image": "a.png", "text": "a", "label": "b", "extra": 1}', "extra"),
    ],
)
def test_a_bad_line_is_named(
    line: str, complaint: str, samples: Sequence[LabelledSample], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(_png(samples))
    (tmp_path / "data.jsonl").write_text(line)
    with pytest.raises(ConfigError, match=complaint):
        load_data(str(tmp_path / "data.jsonl"))


def test_unknown_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="demo-calibration"):
        load_data("nothing")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no samples"):
        load_data(str(tmp_path / "empty.jsonl"))
