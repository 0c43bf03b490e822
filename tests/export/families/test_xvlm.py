"""X-VLM beyond its goldens: several tasks of one checkpoint, pairs of images, named answers."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from exeunt.engine import Engine
from exeunt.export.bundle import export_bundle
from exeunt.export.errors import ExportError
from exeunt.export.families.options import SourceOptions
from exeunt.export.families.registry import describe
from exeunt.export.families.xvlm.config import read_config
from exeunt.export.families.xvlm.model import XvlmModel

HEADS, FFN, SIZE = 3, 10, 4  # SIZE: of a head
LAYERS = {"vision": 2, "text": 1, "cross": 2, "decoder": 2}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "dog")
CONFIG = {
    "image_res": 8,
    "use_clip_vit": True,
    "vision_config": "configs/config_vision.json",  # official paths start at the code's root
    "text_config": "configs/config_text.json",
    "text_num_hidden_layers": LAYERS["text"] + LAYERS["cross"],
    "num_dec_layers": LAYERS["decoder"],
}
VISION = {
    "vision_width": 2 * HEADS * SIZE,
    "patch_size": 4,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS["vision"],
}
TEXT = {
    "vocab_size": 120,
    "hidden_size": HEADS * SIZE,
    "num_hidden_layers": 12,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "max_position_embeddings": 20,
    "fusion_layer": LAYERS["text"],
}


def write_checkpoint(source: Path, task: str, *, pruned: bool = False) -> Path:
    """Write a random checkpoint in half precision."""
    source.mkdir(exist_ok=True)
    for name, content in (("", CONFIG), ("_vision", VISION), ("_text", TEXT)):
        (source / f"config{name}.json").write_text(json.dumps(content))
    weights = {
        name: tensor.half() for name, tensor in random_model(source, task).state_dict().items()
    }
    weights["text_encoder.embeddings.position_ids"] = torch.arange(20)[None]
    weights["temp"] = torch.tensor(0.07)
    if pruned:
        images = 2 if task == "nlvr2" else 1
        parts = {**LAYERS, "cross": images * LAYERS["cross"]}
        for part, count in parts.items():
            if part == "decoder" and task != "vqa":
                continue
            rows = 2 * count if part in ("cross", "decoder") else count
            weights[f"l0_module.{part}_head_loga"] = torch.randn(rows, HEADS)
            weights[f"l0_module.{part}_int_loga"] = torch.randn(count, FFN)
    torch.save({"model": weights, "config": CONFIG, "epoch": 1}, source / "model_state_step_1.th")
    return source


def random_model(source: Path, task: str, seed: int = 3) -> XvlmModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = XvlmModel(read_config(source), task, 2, 5)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def write_tokenizer(file: Path, words: tuple[str, ...] = WORDS) -> Path:
    known = [*words, *(f"w{place}" for place in range(TEXT["vocab_size"] - len(words)))]
    tokenizer = Tokenizer(models.WordLevel(dict(zip(known, range(120), strict=True)), "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(file))
    return file


def configure(source: Path, name: str, **changes: object) -> None:
    file = source / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Both tasks of a checkpoint for retrieval, with a tokenizer."""
    directory = tmp_path_factory.mktemp("xvlm")
    source = write_checkpoint(directory / "source", "itm")
    options = SourceOptions(tokenizer=write_tokenizer(directory / "tokenizer.json"))
    export_bundle(source, directory / "out", options=options)
    with Engine.open(directory / "out", {"warm_up": False}) as engine:
        yield engine


def test_retrieval_answers_both_tasks_of_an_image_and_a_text(retrieval: Engine) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    sample: Mapping[str, object] = {"image": file.getvalue(), "text": "a red dog"}
    fits = retrieval.predict({**sample, "task": "itm"})
    similar = retrieval.predict({**sample, "task": "itc"})
    assert set(fits.lanes) == {"image", "text", "fusion"}, "the other task's lanes are not walked"
    assert set(similar.lanes) == {"image", "text", "match"}
    assert retrieval.manifest.tasks[0].labels == ("no match", "match")
    assert -1 <= similar.logits[0] <= 1


def test_nlvr2_answers_only_once_both_images_are_seen(tmp_path: Path) -> None:
    plan = describe(write_checkpoint(tmp_path, "nlvr2"))
    image, _, fusion = plan.lanes
    assert (image.rows, fusion.rows, fusion.depth) == (2, 1, 2 * LAYERS["cross"])
    assert list(fusion.heads) == [2, 4]
    assert plan.tasks[0].labels == ("False", "True")
    assert plan.inputs.image is None
    tokenizer = SourceOptions(tokenizer=write_tokenizer(tmp_path / "tokenizer.json"))
    taken = describe(tmp_path, options=tokenizer).inputs.image
    assert taken is not None
    assert (taken.count, taken.size) == (2, (8, 8))


def test_the_tokenizer_says_how_answers_begin_and_end(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "vqa")
    loop = describe(tmp_path).lanes[-1].loop
    assert loop is not None
    assert (loop.start, loop.eos, loop.pad) == (101, 102, 0)
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    loop = describe(tmp_path, options=SourceOptions(tokenizer=tokenizer)).lanes[-1].loop
    assert loop is not None
    assert (loop.start, loop.eos, loop.pad) == (2, 3, 0)
    write_tokenizer(tokenizer, WORDS[:2])
    with pytest.raises(ExportError, match=r"has no word '\[CLS\]'"):
        describe(tmp_path, options=SourceOptions(tokenizer=tokenizer))
