"""Under OpenVINO a row is its own: bit for bit whatever shares its batch, in both precisions."""

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exeunt.engine import Answer, Engine
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.backends.openvino.library import capabilities
from exeunt.engine.bundle import Bundle, default_bundle
from exeunt.engine.config import Precision
from exeunt.export.bundle import ExportReport
from exeunt.export.parity.walk import walk

EXAMPLES = Path(str(resources.files("exeunt.train"))) / "demo" / "checkpoint" / "examples"
ROWS = 8
NEAR = 1e-4  # of a threshold: there, the last digits of a backend decide

needs_bf16 = pytest.mark.skipif("BF16" not in capabilities(), reason="this CPU has no bfloat16")
needs_two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="this process may use one core alone"
)
PRECISIONS = ["fp32", pytest.param("bf16", marks=needs_bf16)]
THREADS = [1, pytest.param(2, marks=needs_two_cores)]

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def embedded() -> Bundle:
    return Bundle.open(default_bundle())


def _examples() -> list[dict[str, object]]:
    lines = (EXAMPLES / "examples.jsonl").read_text().splitlines()
    return [
        {"image": (EXAMPLES / example["image"]).read_bytes(), "text": example["text"]}
        for example in map(json.loads, lines)
    ]


def _real_rows(bundle: Bundle) -> Arrays:
    """Return examples of one length, prepared as a server does; the lengths vary below it."""
    with Engine.open(bundle, backend=open_backend("fake", 1)) as engine:
        prepared = [engine.prepare(sample) for sample in _examples()]
    longest = max(len(one["input_ids"]) for one in prepared)
    padded = [
        {
            name: array if array.ndim > 1 else np.pad(array, (0, longest - len(array)))
            for name, array in one.items()
        }
        for one in prepared[:ROWS]
    ]
    return {name: np.stack([one[name] for one in padded]) for name in padded[0]}


def _random_rows(words: int) -> Arrays:
    rng = np.random.default_rng(words)
    mask = (np.arange(words) < rng.integers(1, words + 1, (ROWS, 1))).astype(np.int64)
    return {
        "pixel_values": rng.uniform(-1, 1, (ROWS, 3, 32, 32)).astype(np.float32),
        "input_ids": rng.integers(0, 14, (ROWS, words)) * mask,
        "attention_mask": mask,
    }


def _walk(bundle: Bundle, backend: Backend, rows: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return every output of every segment, each fed by the segments before it."""

    def run(name: str, inputs: Arrays) -> Mapping[str, NDArray[Any]]:
        return backend.load(bundle.manifest, bundle.root, name).run(inputs)

    return {
        f"{name} {port}": array
        for name, outputs in walk(bundle.manifest, rows, run)
        for port, array in outputs.items()
    }


def _assert_rows_are_their_own(bundle: Bundle, backend: Backend, rows: Arrays) -> None:
    alone = [
        _walk(bundle, backend, {name: array[row : row + 1] for name, array in rows.items()})
        for row in range(ROWS)
    ]
    random = np.random.default_rng(7)
    for size in range(2, ROWS + 1):
        mates = random.permutation(ROWS)[:size]
        together = _walk(bundle, backend, {name: array[mates] for name, array in rows.items()})
        for place, row in enumerate(mates):
            for name, found in together.items():
                assert found.dtype in (np.float32, np.int64)
                assert found[place].tobytes() == alone[row][name][0].tobytes(), (name, size)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_of_the_embedded_bundle_is_its_own(
    precision: Precision, threads: int, embedded: Bundle
) -> None:
    backend = open_backend("openvino", threads, precision)
    _assert_rows_are_their_own(embedded, backend, _real_rows(embedded))


@pytest.mark.parametrize("words", [1, 7])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_of_a_small_bundle_is_its_own(
    precision: Precision, words: int, exported: ExportReport
) -> None:
    bundle = Bundle(exported.out, exported.manifest)
    _assert_rows_are_their_own(bundle, open_backend("openvino", 1, precision), _random_rows(words))


@needs_bf16
def test_bf16_is_another_precision_with_float32_at_the_borders(embedded: Bundle) -> None:
    rows = _real_rows(embedded)
    full = _walk(embedded, open_backend("openvino", 1, "fp32"), rows)
    half = _walk(embedded, open_backend("openvino", 1, "bf16"), rows)
    states = [name for name in full if "hidden" in name]
    assert {full[name].dtype for name in states} == {half[name].dtype for name in states}
    assert all(np.abs(full[name] - half[name]).max() > 1e-4 for name in states if "layer" in name)


def _answers(bundle: Bundle, backend: Backend) -> list[Answer]:
    with Engine.open(bundle, backend=backend) as engine:
        return [engine.predict(sample) for sample in _examples()]


def _near(bundle: Bundle) -> list[bool]:
    """Return which examples have a score within NEAR of the bundle's threshold at any layer."""
    near = []
    with Engine.open(bundle, backend=open_backend("onnxruntime", 2)) as engine:
        rules = engine.compile(engine.policy).lanes[engine.manifest.tasks[0].name, "joint"].rules
        for sample in _examples():
            raw = {name: array[None] for name, array in engine.prepare(sample).items()}
            scores = engine.probe(raw)["joint"].scores
            near.append(
                any(
                    abs(float(score) - threshold) <= NEAR
                    for rule in rules
                    for score, threshold in zip(
                        scores[rule.name][:, 0], rule.thresholds, strict=True
                    )
                )
            )
    return near


@pytest.mark.parametrize("threads", THREADS)
def test_decisions_are_those_of_onnxruntime(threads: int, embedded: Bundle) -> None:
    found = _answers(embedded, open_backend("openvino", threads))
    wanted = _answers(embedded, open_backend("onnxruntime", 2))
    near = _near(embedded)
    assert near.count(False) > len(near) // 2
    assert len({answer.exit_layer for answer in wanted}) > 1
    for one, other, close in zip(found, wanted, near, strict=True):
        if not close:
            assert (one.exit_layer, one.label) == (other.exit_layer, other.label)
            np.testing.assert_allclose(one.logits, other.logits, atol=NEAR)
