"""A tiny demo checkpoint with random weights, and the bundle exported from it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from exeunt.export.bundle import ExportReport

WORDS = ("what", "is", "the", "shape", "in", "image", "?", "a", "red", "blue", "circle", "square")
LABELS = ("circle", "square", "yes", "no", "maybe")
EXAMPLES = (
    "what is the shape in the image ?",
    "a red circle",
    "is the blue square in the image",
    "what ?",
)


def write_checkpoint(directory: Path, *, layers: int = 2, hidden: int = 16) -> Path:
    """Write a checkpoint of a random model with examples; return its directory."""
    import torch
    from safetensors.torch import save_file

    from exeunt.export.families.demo import DemoConfig, DemoModel

    directory.mkdir(parents=True)
    config = DemoConfig(
        hidden=hidden,
        layers=layers,
        heads=2,
        ffn=2 * hidden,
        image_size=32,
        max_tokens=10,
        vocab=len(WORDS) + 2,
        labels=len(LABELS),
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = DemoModel(config)
    save_file(model.state_dict(), directory / "model.safetensors")
    (directory / "config.json").write_text(config.model_dump_json())
    (directory / "labels.json").write_text(json.dumps(LABELS))
    settings = {
        "size": [32, 32],
        "mode": "RGB",
        "resample": "bicubic",
        "scale": 1 / 255,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    (directory / "preprocessor.json").write_text(json.dumps(settings))
    (directory / "tokenizer.json").write_text(_tokenizer())
    _write_examples(directory / "examples")
    return directory


def _tokenizer() -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())


def _write_examples(directory: Path) -> None:
    directory.mkdir()
    rng = np.random.default_rng(3)
    lines = []
    for place, text in enumerate(EXAMPLES):
        pixels = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(directory / f"{place}.png")
        lines.append(json.dumps({"image": f"{place}.png", "text": text}))
    (directory / "examples.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny checkpoint: copy it before changing it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> "ExportReport":
    """The tiny checkpoint's bundle: copy it before changing it."""
    from exeunt.export.bundle import export_bundle

    return export_bundle(checkpoint, tmp_path_factory.mktemp("exported") / "bundle")
