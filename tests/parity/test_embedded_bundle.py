"""The bundle that ships is the checkpoint that ships."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from exeunt.engine import Engine
from exeunt.engine.bundle import Bundle, default_bundle
from exeunt.export.families.demo import load_checkpoint
from exeunt.export.parity.report import ParityReport

CHECKPOINT = Path(str(resources.files("exeunt.train"))) / "demo" / "checkpoint"
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(default_bundle())


def test_bundle_was_exported_from_the_checkpoint(bundle: Bundle) -> None:
    model = load_checkpoint(CHECKPOINT)
    examples = [
        json.loads(line)
        for line in (CHECKPOINT / "examples" / "examples.jsonl").read_text().splitlines()
    ]
    with Engine.open(bundle) as engine:
        for example in examples:
            image = (CHECKPOINT / "examples" / example["image"]).read_bytes()
            prepared = engine.prepare({"image": image, "text": example["text"]})
            raw = {name: array[None] for name, array in prepared.items()}
            probe = engine.probe(raw)["joint"]
            with torch.inference_mode():
                tensors = {name: torch.from_numpy(array) for name, array in raw.items()}
                exits = model(**tensors)
            assert len(exits) == len(probe.logits)
            for layer, logits in enumerate(exits, 1):
                np.testing.assert_allclose(probe.logits[layer], logits.numpy(), atol=TOLERANCE)
    assert list(bundle.manifest.tasks[0].labels) == json.loads(
        (CHECKPOINT / "labels.json").read_text()
    )


def test_parity_was_measured_over_real_inputs(bundle: Bundle) -> None:
    report = ParityReport.model_validate_json(bundle.path("parity.json").read_bytes())
    assert report.real is not None
    assert report.real.same_answers == 1.0
    assert report.composed.tolerance <= TOLERANCE
    assert report.batch.bit_exact


def test_bundle_is_small_and_recommends_an_exit_policy(bundle: Bundle) -> None:
    size = sum(file.stat().st_size for file in bundle.root.rglob("*") if file.is_file())
    assert size <= 10 * 2**20
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 8 * 2**20
    assert bundle.manifest.exit_policy is not None
