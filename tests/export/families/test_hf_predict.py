"""Hugging Face checkpoints with a tokenizer: a request's image, regions and text are enough."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from exeunt.engine import Engine
from exeunt.engine.errors import InputError
from exeunt.export.bundle import export_bundle
from exeunt.export.errors import ExportError
from exeunt.export.families.options import SourceOptions
from exeunt.export.families.registry import describe
from tests.support.goldens import COPIES

WORDS = ("[PAD]", "[UNK]", "is", "there", "a", "red", "dog")


def checkpoint(name: str, out: Path, *, words: int | None = None) -> Path:
    """Copy a golden's checkpoint and give it a tokenizer of `words` words, as many as it embeds."""
    out.mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copyfile(COPIES / name / file, out / file)
    config = json.loads((out / "config.json").read_text())
    size = words or config.get("text_config", config)["vocab_size"]
    known = [*WORDS, *(f"w{place}" for place in range(size - len(WORDS)))]
    vocabulary = {word: place for place, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(out / "tokenizer.json"))
    return out


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """BLIP with both tasks."""
    directory = tmp_path_factory.mktemp("blip")
    export_bundle(checkpoint("hf_blip_itm", directory / "source"), directory / "out")
    with Engine.open(directory / "out", {"warm_up": False}) as engine:
        yield engine


def picture(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_blip_answers_both_tasks_of_an_image_and_a_text(blip: Engine) -> None:
    sample: dict[str, Any] = {"image": picture(), "text": "is there a red dog"}
    tensors = {name: array[None] for name, array in blip.prepare({**sample, "task": "itm"}).items()}
    fits = blip.run(tensors, "itm")[0]
    similar = blip.run(tensors, "itc")[0]
    assert fits.logits.shape == (2,)
    assert set(fits.lanes) == {"image", "fusion"}, "the other task's lanes are not walked"
    assert similar.logits.shape == (1,)
    assert set(similar.lanes) == {"image", "text", "match"}
    assert -1 <= similar.logits[0] <= 1


def test_blip_scales_an_image_as_its_processor_does(blip: Engine) -> None:
    found = blip.prepare({"image": picture(), "text": "a dog", "task": "itm"})["pixel_values"]
    size = found.shape[1:]
    image = Image.open(io.BytesIO(picture())).convert("RGB")
    pixels = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC), np.float32) / 255
    mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
    np.testing.assert_allclose(found, ((pixels - mean) / std).transpose(2, 0, 1), atol=1e-5)


def test_settings_that_the_engine_cannot_follow_are_refused(tmp_path: Path) -> None:
    source = checkpoint("hf_blip_itm", tmp_path / "blip")
    (source / "preprocessor_config.json").write_text(json.dumps({"do_center_crop": True}))
    with pytest.raises(ExportError, match=r"do_center_crop True: .* without cropping"):
        describe(source)
    (source / "preprocessor_config.json").write_text(json.dumps({"resample": 2}))
    image = describe(source).inputs.image
    assert image is not None
    assert image.resample == "bilinear"


@pytest.mark.parametrize("name", ["hf_visualbert_vqa", "hf_lxmert_vqa"])
def test_a_tokenizer_lets_a_request_bring_text_and_regions(name: str, tmp_path: Path) -> None:
    plan = describe(checkpoint(name, tmp_path / "source"))
    assert plan.inputs.text is not None
    assert plan.inputs.regions is not None
    assert plan.inputs.regions.box_columns == 4
    assert plan.inputs.regions.box_units == "normalised"


def test_without_a_tokenizer_only_raw_tensors_are_taken() -> None:
    plan = describe(COPIES / "hf_lxmert_vqa")
    assert plan.inputs.text is None
    assert plan.files == {}


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    source = checkpoint("hf_lxmert_vqa", tmp_path / "source", words=40)
    with pytest.raises(ExportError, match=r"has 40 words, the checkpoint embeds"):
        describe(source)
    fitting = checkpoint("hf_lxmert_vqa", tmp_path / "fitting") / "tokenizer.json"
    plan = describe(source, options=SourceOptions(tokenizer=fitting))
    assert plan.files == {"tokenizer.json": fitting}


def test_blip_refuses_an_image_that_is_none(blip: Engine) -> None:
    with pytest.raises(InputError):
        blip.prepare({"image": b"no image", "text": "a dog", "task": "itm"})
