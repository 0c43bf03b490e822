"""`exeunt bench exact`: real segments keep the promises, and whoever breaks one is found out."""

import json
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

import exeunt.bench.exactness
import exeunt.bench.exactness.bench as bench
import exeunt.bench.workloads
from exeunt.bench.exactness import ExactnessSettings, bench_exactness, exactness_settings
from exeunt.bench.exactness.compare import Deviation, deviation
from exeunt.bench.exactness.schedule import Served, draw_schedule, serve
from exeunt.bench.exactness.sequential import Sequential, entropy_policy, judge
from exeunt.bench.exactness.settings import Thresholds
from exeunt.bench.exactness.walk import OneByOne, padded_to
from exeunt.bench.report import read_report
from exeunt.bench.workloads import draw_samples, uniter_base_bundle
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.backends.openvino.library import capabilities
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import compile_policy
from exeunt.engine.exit_policy.format import ExitPolicy
from exeunt.server.cli import main
from tests.bench.test_workloads import TINY
from tests.support.manifests import fake_bundle, single_stream

needs_bf16 = pytest.mark.skipif("BF16" not in capabilities(), reason="this CPU has no bfloat16")
LANE = "joint"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "bench-cache"  # shared by the bench's test modules


def small(**settings: Any) -> ExactnessSettings:
    return exactness_settings({"workload": TINY, "samples": 24, "schedules": 2, **settings})


BACKENDS = [
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    pytest.param("openvino", "bf16", marks=needs_bf16),
]


@pytest.mark.parametrize(("backend", "precision"), BACKENDS)
def test_padded_rows_have_the_bits_of_batch_1(backend: str, precision: str, cache: Path) -> None:
    """On-score thresholds: the last bit of a score decides."""
    settings = small(backend=backend, precision=precision, thresholds="on-score", lengths="fixed")
    found = bench_exactness(settings, cache_dir=cache)
    assert found.broken == ()
    assert found.report.figures["padded alone: bit-equal"].repeats == (1.0, 1.0)
    assert found.report.details["deterministic_allows_layout"] is True
    deviations: Any = found.report.details["deviations"]
    assert all(one["near"] >= 1 for one in deviations["padded alone"])


@pytest.mark.parametrize(("backend", "precision"), BACKENDS)
def test_packed_rows_have_the_bits_of_packed_batch_1(
    backend: str, precision: str, cache: Path
) -> None:
    # Where a number is rounded to bfloat16 anew, the last bits of float32 are not what is lost.
    tolerance = 1e-5 if precision == "fp32" else 0.05
    settings = small(
        backend=backend,
        precision=precision,
        layout="packed",
        lengths="varying",
        tolerance=tolerance,
    )
    found = bench_exactness(settings, cache_dir=cache)
    assert found.broken == ()
    figures = found.report.figures
    assert figures["packed alone: bit-equal"].repeats == (1.0, 1.0)
    assert figures[f"padded alone: within {tolerance:g}"].repeats == (1.0, 1.0)
    assert figures["longest bucket: bit-equal"].median < 1  # else it would be the own bucket


def test_one_perturbed_row_breaks_the_promise(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    def perturbed(*arguments: Any) -> Served:
        served = serve(*arguments)
        served.logits[3, 1] = np.nextafter(served.logits[3, 1], np.float32(np.inf))
        return served

    monkeypatch.setattr(bench, "serve", perturbed)
    monkeypatch.setattr(
        exeunt.bench.exactness, "bench_exactness", partial(bench_exactness, cache_dir=cache)
    )
    monkeypatch.setattr(exeunt.bench.workloads, "uniter_config", lambda **_: TINY)
    arguments = ["--samples", "8", "--schedules", "2", "--threads", "2", "--lengths", "fixed"]
    assert _run(*arguments, "--out", str(tmp_path), "--json") == 1
    printed = capsys.readouterr()
    assert "against padded alone: 2 of 16 rows are not bit-equal" in " ".join(printed.err.split())
    assert "2 of 16 rows" in json.loads(printed.out)["details"]["broken"][0]
    report = read_report(tmp_path / "report.json")
    assert report.figures["padded alone: bit-equal"].repeats == (7 / 8, 7 / 8)
    monkeypatch.undo()


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "exact", *arguments])
    return int(ended.value.code or 0)


def test_help_has_examples(capsys: Any) -> None:
    assert _run("--help") == 0
    assert "exeunt bench exact --layout packed" in capsys.readouterr().out


def reference() -> Sequential:
    """Four samples of three layers and two classes; the first is near a threshold."""
    logits = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    return Sequential(logits, np.array([1, 2, 3, 3]), np.array([1e-6, 0.1, 0.2, 0.3]))


def served_by(
    expected: Sequential, layers: list[int] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    left = expected.exit_layers if layers is None else np.array(layers)
    return left, expected.at(left).copy()


def test_equal_answers_keep_every_promise() -> None:
    found = deviation(reference(), *served_by(reference()), 1e-5)
    assert found == Deviation(4, 4, 4, 0.0, 1, 0, 0)
    assert found.broken("bits") is None
    assert found.broken("tolerance") is None


def test_a_bit_a_large_difference_and_a_decision_are_told_apart() -> None:
    left, logits = served_by(reference())
    logits[2, 0] = np.nextafter(logits[2, 0], np.float32(9))
    found = deviation(reference(), left, logits, 1e-5)
    assert (found.bit_equal, found.within) == (3, 4)
    assert "1 of 4 rows are not bit-equal" in str(found.broken("bits"))
    assert found.broken("tolerance") is None
    assert found.broken("none") is None
    logits[2, 0] += 1e-3
    found = deviation(reference(), left, logits, 1e-5)
    assert found.within == 3
    assert found.largest == pytest.approx(1e-3, rel=0.01)
    assert "1 of 4 rows are beyond the tolerance" in str(found.broken("tolerance"))
    logits[2, 0] = np.nan
    assert deviation(reference(), left, logits, 1e-5).largest == np.inf


def test_a_decision_may_move_near_a_threshold_alone() -> None:
    near = deviation(reference(), *served_by(reference(), [2, 2, 3, 3]), 1e-5)
    assert (near.moved_near, near.moved_outside, near.within) == (1, 0, 4)
    assert near.broken("tolerance") is None
    assert "1 at another layer" in str(near.broken("bits"))
    far = deviation(reference(), *served_by(reference(), [1, 2, 2, 3]), 1e-5)
    assert (far.moved_near, far.moved_outside) == (0, 1)
    assert "1 that are not near" in str(far.broken("tolerance"))


def thresholds_of(policy: ExitPolicy) -> tuple[float, ...]:
    found = policy.tasks["default"][LANE].any[0].threshold
    assert isinstance(found, tuple)
    return found


def test_samples_leave_where_their_own_scores_say() -> None:
    manifest = single_stream(layers=3, classes=4)
    logits = np.random.default_rng(1).normal(size=(30, 3, 4)).astype(np.float32)

    def entropies() -> NDArray[np.float64]:
        p = np.exp(logits.astype(np.float64))
        p /= p.sum(axis=-1, keepdims=True)
        found: NDArray[np.float64] = -(p * np.log(p)).sum(axis=-1)
        return found

    scores = entropies()
    for thresholds in get_args(Thresholds):
        policy = entropy_policy(LANE, logits, "uniform", thresholds)
        task = manifest.tasks[0].name
        alone = judge(logits, compile_policy(policy, manifest).lanes[task, LANE])
        assert np.bincount(alone.exit_layers).tolist() == [0, 10, 10, 10]
        limits = np.array(thresholds_of(policy))
        for row, layer in enumerate(alone.exit_layers):
            distances = np.abs(scores[row] - limits)[: min(layer, 2)]
            assert alone.nearest[row] == pytest.approx(distances.min(), abs=1e-6)
        assert (alone.nearest == 0).any() == (thresholds == "on-score")


def test_schedules_differ_and_can_be_drawn_again() -> None:
    drawn = [draw_schedule(40, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert drawn[0].order.tolist() == drawn[1].order.tolist() != drawn[2].order.tolist()
    assert drawn[0].limits == drawn[1].limits != drawn[2].limits
    assert sorted(drawn[0].order) == list(range(40))
    for schedule in drawn:
        limits = schedule.limits
        assert 1 <= limits["min_batch_rows"] <= limits["max_batch_rows"]
        assert limits["max_resident_rows"] >= limits["max_batch_rows"]


def test_padding_to_another_bucket(cache: Path) -> None:
    manifest = Bundle.open(uniter_base_bundle(TINY, cache_dir=cache)).manifest
    (sample,) = draw_samples(TINY, 1, lengths="varying")
    padded = padded_to(manifest, sample, {"S": 10, "R": 12})
    assert {name: array.shape[0] for name, array in padded.items()} == {
        "input_ids": 10,
        "attention_mask": 10,
        "region_features": 12,
        "region_boxes": 12,
        "region_mask": 12,
    }
    for name, array in sample.items():
        assert padded[name].dtype == array.dtype
        np.testing.assert_array_equal(padded[name][: len(array)], array)
        assert not padded[name][len(array) :].any()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"samples": 1}, "at samples: Input should be greater than or equal to 2"),
        ({"schedules": 0}, "at schedules: Input should be greater than or equal to 1"),
        ({"tolerance": 0.0}, "at tolerance: Input should be greater than 0"),
        ({"layout": "auto"}, "at layout: Input should be 'padded' or 'packed'"),
        ({"backend": "torch"}, "at backend: Input should be 'onnxruntime' or 'openvino'"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"bench exact, {complaint}"):
        exactness_settings(options)


def test_what_the_backend_or_the_bundle_lacks_is_refused(cache: Path) -> None:
    with pytest.raises(ConfigError, match="computes in fp32 alone"):
        bench_exactness(small(precision="bf16"), cache_dir=cache)
    bundle = fake_bundle(single_stream(layers=2))
    with pytest.raises(ConfigError, match="no packed layers"):
        OneByOne(bundle, FakeBackend(), "packed")
    with pytest.raises(ConfigError, match="a head after each layer and no other"):
        OneByOne(fake_bundle(single_stream(2, final_head=True)), FakeBackend(), "padded")
