"""Real segments under random schedules: every criterion decides as it does for one row alone.

The reference is the tests' own sequential algorithm, with its own scores. Decisions may differ
where a score lies within rounding of its threshold; the bits of the logits may not.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exeunt.bench.workloads import draw_samples, uniter_base_bundle
from exeunt.engine import Answer, Engine, EngineConfig
from exeunt.engine.backends import open_backend
from exeunt.engine.backends.base import Array, LoadedSegment, Tensors
from exeunt.engine.backends.onnxruntime import OnnxRuntimeBackend
from exeunt.engine.backends.openvino.library import capabilities
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.exit_policy import ExitPolicy, LaneRules
from exeunt.engine.inputs.tensors import TensorChecker
from tests.bench.test_workloads import TINY
from tests.support.sequential import SequentialModel, Walk

COUNT = 20
NEAR = 1e-5  # the reference has scores of its own, which differ in the last digits
THREADS = EngineConfig().compute_threads
needs_bf16 = pytest.mark.skipif("BF16" not in capabilities(), reason="this CPU has no bfloat16")
needs_two_threads = pytest.mark.skipif(THREADS < 2, reason="streams need a thread each")
# Backend, precision and streams. The tests' process has one pool of ONNX Runtime's, for one stream.
BACKENDS = [
    ("onnxruntime", "fp32", 1),
    pytest.param(("openvino", "fp32", 2), marks=needs_two_threads),
    pytest.param(("openvino", "bf16", 1), marks=needs_bf16),
]
Backend = tuple[str, Any, int]
Sample = Mapping[str, Array]
Key = tuple[int, int]  # a sample and a policy


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    cache = tmp_path_factory.getbasetemp() / "bench-cache"  # shared with the bench's tests
    backend = open_backend("onnxruntime", THREADS)
    return Bundle.open(uniter_base_bundle(TINY, cache_dir=cache, backend=backend))


@pytest.fixture(scope="module")
def samples(bundle: Bundle) -> list[dict[str, Array]]:
    checker = TensorChecker(bundle.manifest)
    return [checker.sample(one) for one in draw_samples(TINY, COUNT, lengths="varying", seed=3)]


@pytest.fixture(scope="module")
def policies(bundle: Bundle, samples: list[dict[str, Array]]) -> list[ExitPolicy]:
    """One policy for each way to decide; by medians, so that rows part at every layer."""
    backend = open_backend("onnxruntime", THREADS)
    with Engine.open(bundle, {"warm_up": False}, backend=backend) as engine:
        probes = [
            engine.probe({name: array[None] for name, array in sample.items()})["joint"]
            for sample in samples
        ]
    median = {
        name: np.median([probe.scores[name][:, 0] for probe in probes], axis=0).tolist()
        for name in ("entropy", "cosine", "confidence", "margin")
    }
    rules: list[dict[str, Any]] = [
        {"any": [{"criterion": name, "threshold": limits}]} for name, limits in median.items()
    ]
    rules.append({"any": [{"criterion": "patience", "threshold": 1}]})
    rules.append(
        {
            "all": [
                {"criterion": "cosine", "threshold": median["cosine"], "min_layer": 2},
                {"criterion": "entropy", "threshold": median["entropy"]},
            ]
        }
    )
    return [
        ExitPolicy.model_validate({"version": place, "tasks": {"default": {"joint": one}}})
        for place, one in enumerate(rules, 1)
    ]


def serve(
    bundle: Bundle,
    config: Mapping[str, object],
    samples: Sequence[Sample],
    policies: Sequence[ExitPolicy],
    order: Sequence[Key],
) -> list[tuple[Key, Answer]]:
    """Serve each (sample, policy) of the order twice, so that bound memory is met again."""
    order = [*order, *order]
    settings = {"warm_up": False, "threads": THREADS, "max_queued_rows": len(order), **config}
    with Engine.open(bundle, settings) as engine:
        compiled = [engine.compile(policy) for policy in policies]
        with engine.reserve(len(order)) as ticket:
            pending = [
                engine.submit_tensors(ticket, samples[place], exit_policy=compiled[which])
                for place, which in order
            ]
            answers = [future.result(timeout=60) for future in pending]
        rows = [counts for (_, layer), counts in engine.stats.stage_rows.items() if layer]
        if engine.config.max_batch_rows > 1:  # else nothing shared a batch
            assert sum(row for row, _ in rows) > 1.5 * sum(batches for _, batches in rows)
    return list(zip(order, answers, strict=True))


def settings_of(backend: Backend) -> dict[str, object]:
    return dict(zip(("backend", "precision", "streams"), backend, strict=True))


def schedule(seed: int, policies: int) -> tuple[list[Key], dict[str, object]]:
    random = np.random.default_rng(seed)
    order = [(place, which) for place in range(COUNT) for which in range(policies)]
    rows = int(random.choice([5, 8, 32]))
    config: dict[str, object] = {
        "max_batch_rows": rows,
        "min_batch_rows": int(random.integers(1, rows)),
        "max_resident_rows": int(random.integers(2 * rows, 3 * rows)),
        "max_wait_s": float(random.choice([1e-6, 1.0])),
    }
    return [order[place] for place in random.permutation(len(order))], config


def walks(
    bundle: Bundle,
    backend: Backend,
    samples: Sequence[Sample],
    policies: Sequence[ExitPolicy],
) -> dict[Key, Walk]:
    opened = open_backend(backend[0], THREADS, backend[1], backend[2])
    manifest = bundle.manifest

    def model(policy: ExitPolicy) -> SequentialModel:
        rules: dict[str, LaneRules] = dict(policy.tasks["default"])
        return SequentialModel(
            manifest, lambda name: opened.load(manifest, bundle.root, name), rules
        )

    found = {
        (place, which): one.walk({name: array[None] for name, array in sample.items()})
        for which, one in enumerate(map(model, policies))
        for place, sample in enumerate(samples)
    }
    opened.close()
    return found


def differing(answers: Sequence[tuple[Key, Answer]], alone: Mapping[Key, Walk]) -> list[str]:
    """Return every answer that is not the sequential one, bit for bit, and why."""
    wrong = []
    for key, answer in answers:
        if alone[key].nearest < NEAR:
            continue
        (left,) = alone[key].left["joint"]
        if answer.exit_layer != left.layer:
            wrong.append(f"{key} left at {answer.exit_layer}, not {left.layer}")
        elif not np.array_equal(answer.logits, np.asarray(left.logits)):
            wrong.append(f"{key} has other bits")
        elif (left.fired or "depth") != (
            answer.criterion if answer.reason == "criterion" else "depth"
        ):
            wrong.append(f"{key} left by {answer.criterion}, not {left.fired}")
    return wrong


@pytest.mark.parametrize("backend", BACKENDS)
def test_padded_rows_leave_where_they_leave_alone(
    backend: Backend,
    bundle: Bundle,
    samples: list[dict[str, Array]],
    policies: list[ExitPolicy],
) -> None:
    alone = walks(bundle, backend, samples, policies)
    assert {left.layer for walk in alone.values() for left in walk.left["joint"]} == {1, 2, 3}
    assert sum(walk.nearest < NEAR for walk in alone.values()) < 0.2 * len(alone)
    for seed in range(2):
        order, config = schedule(seed, len(policies))
        settings = {**settings_of(backend), "deterministic": True, "layout": "padded", **config}
        answers = serve(bundle, settings, samples, policies, order)
        assert differing(answers, alone) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_rows_have_the_bits_of_packed_rows_alone(
    backend: Backend,
    bundle: Bundle,
    samples: list[dict[str, Array]],
    policies: list[ExitPolicy],
) -> None:
    settings = {**settings_of(backend), "layout": "packed"}
    order, config = schedule(5, len(policies))
    one_by_one = {"max_batch_rows": 1, "max_resident_rows": 1}
    alone = dict(serve(bundle, {**settings, **one_by_one}, samples, policies, sorted(order)))
    together = serve(
        bundle, {**settings, **config, "deterministic": True}, samples, policies, order
    )
    for key, answer in together:
        expected = alone[key]
        np.testing.assert_array_equal(answer.logits, expected.logits)
        assert (answer.exit_layer, answer.criterion, answer.score) == (
            expected.exit_layer,
            expected.criterion,
            expected.score,
        )


class MovesWithTheBatch:
    """A head whose logits move in their last bit when rows share a batch."""

    def __init__(self, inner: LoadedSegment) -> None:
        self._inner = inner

    def run(self, inputs: Tensors) -> Tensors:
        logits = self._inner.run(inputs)["logits"]
        return {"logits": self._moved(logits)}

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        call, logits = self._inner.bind(inputs, outputs), outputs["logits"]

        def moved() -> None:
            call()
            logits[:] = self._moved(logits)

        return moved

    def _moved(self, logits: Array) -> Array:
        return np.nextafter(logits, np.float32(9)) if len(logits) > 1 else logits


def test_a_backend_whose_rows_move_with_the_batch_is_found_out(
    bundle: Bundle,
    samples: list[dict[str, Array]],
    policies: list[ExitPolicy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = walks(bundle, ("onnxruntime", "fp32", 1), samples, policies)
    load = OnnxRuntimeBackend.load

    def moving(
        self: OnnxRuntimeBackend, manifest: Manifest, root: Path, segment: str
    ) -> LoadedSegment:
        loaded = load(self, manifest, root, segment)
        is_head = manifest.segments[segment].kind == "head"
        return MovesWithTheBatch(loaded) if is_head else loaded

    monkeypatch.setattr(OnnxRuntimeBackend, "load", moving)
    order, config = schedule(0, len(policies))
    answers = serve(bundle, config, samples, policies, order)
    assert len(differing(answers, alone)) > COUNT
