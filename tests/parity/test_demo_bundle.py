"""The bundle's segments, chained by the engine, are the model they were cut from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from exeunt.engine import Engine
from exeunt.engine.probe import LaneProbe
from exeunt.export.bundle import ExportReport
from exeunt.export.families.demo import DemoModel, load_checkpoint

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> DemoModel:
    return load_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def engine(exported: ExportReport) -> Iterator[Engine]:
    with Engine.open(exported.out) as opened:
        yield opened


def _raw(rows: int, words: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, rows, words])
    valid = rng.integers(1, words + 1, (rows, 1))
    mask = (np.arange(words) < valid).astype(np.int64)
    return {
        "pixel_values": rng.uniform(-1, 1, (rows, 3, 32, 32)).astype(np.float32),
        "input_ids": rng.integers(0, 14, (rows, words)) * mask,
        "attention_mask": mask,
    }


def _whole(model: DemoModel, raw: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.inference_mode():
        exits = model(*(torch.from_numpy(raw[name]) for name in raw))
    return [logits.numpy() for logits in exits]


def _arrays(probe: LaneProbe) -> list[np.ndarray]:
    return [*probe.hidden, *probe.logits.values()]


@pytest.mark.parametrize(("rows", "words"), [(1, 1), (3, 7), (8, 10)])
def test_composed_segments_are_the_whole_model(
    rows: int, words: int, engine: Engine, model: DemoModel
) -> None:
    raw = _raw(rows, words)
    probe = engine.probe(raw)["joint"]
    with torch.inference_mode():
        hidden, mask = model.embed(*(torch.from_numpy(array) for array in raw.values()))
        np.testing.assert_allclose(probe.hidden[0], hidden, atol=TOLERANCE)
        for layer, module in enumerate(model.layers, 1):
            hidden = module(hidden, mask)
            np.testing.assert_allclose(probe.hidden[layer], hidden, atol=TOLERANCE)
    for layer, logits in enumerate(_whole(model, raw), 1):
        np.testing.assert_allclose(probe.logits[layer], logits, atol=TOLERANCE)


@pytest.mark.parametrize("words", [1, 4, 10])
def test_row_in_a_batch_is_the_row_alone_bit_for_bit(words: int, engine: Engine) -> None:
    raw = _raw(13, words)
    together = engine.probe(raw)["joint"]
    for row in range(13):
        alone = engine.probe({name: array[row : row + 1] for name, array in raw.items()})["joint"]
        for many, one in zip(_arrays(together), _arrays(alone), strict=True):
            np.testing.assert_array_equal(many[row], one[0])


def test_never_is_the_whole_model(engine: Engine, model: DemoModel) -> None:
    raw = _raw(9, 6)
    answers = engine.run(raw)
    logits = _whole(model, raw)[-1]
    labels = engine.manifest.tasks[0].labels
    for row, answer in enumerate(answers):
        assert answer.exit_layer == answer.depth == 2
        assert answer.label == labels[int(logits[row].argmax())]
        expected = np.exp(logits[row]) / np.exp(logits[row]).sum()
        found = [answer.probabilities[label] for label in labels]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_torch_backend_is_onnxruntime(engine: Engine, exported: ExportReport) -> None:
    raw = _raw(5, 8)
    expected = engine.probe(raw)["joint"]
    with Engine.open(exported.out, {"backend": "torch"}) as other:
        found = other.probe(raw)["joint"]
    for left, right in zip(_arrays(found), _arrays(expected), strict=True):
        np.testing.assert_allclose(left, right, atol=TOLERANCE)
