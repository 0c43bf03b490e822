"""What a checkpoint directory says beside the weights: tokenizer, image settings, tasks."""

import json
from pathlib import Path

import pytest
import torch

from exeunt.export.errors import ExportError
from exeunt.export.families.ofa.checkpoint import save_model
from exeunt.export.families.ofa.family import OfaFamily
from exeunt.export.families.ofa.model import OfaModel
from exeunt.export.plan import BundlePlan
from tests.support.ofa import TINY


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny model in our own format, with a tokenizer that nothing here reads."""
    torch.manual_seed(4)
    save_model(OfaModel(TINY), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def describe(checkpoint: Path) -> BundlePlan:
    return OfaFamily().describe(checkpoint)


def test_a_tokenizer_lets_the_bundle_take_images_and_texts(checkpoint: Path) -> None:
    plan = describe(checkpoint)
    assert plan.inputs.image is not None
    assert plan.inputs.text is not None
    assert plan.inputs.image.size == (TINY.image_size, TINY.image_size)
    assert (plan.inputs.image.tensor, plan.inputs.image.mean) == ("patch_images", (0.5, 0.5, 0.5))
    text = plan.inputs.text
    assert (text.ids, text.mask, text.pad_id) == ("src_tokens", "attention_mask", 1)
    assert text.max_tokens == TINY.max_source_length
    assert set(plan.files) == {"tokenizer.json"}


def test_the_loop_is_the_official_generators(checkpoint: Path) -> None:
    loop = describe(checkpoint).lanes[-1].loop
    assert loop is not None
    assert (loop.start, loop.pad, loop.eos, loop.max_steps) == (0, 1, 2, TINY.max_steps)
    assert (loop.never, loop.min_tokens, loop.closed) == ((1,), 1, True)


def test_options_name_the_tasks(checkpoint: Path) -> None:
    entails = {"name": "entails", "prompt": "{text} ?", "labels": ["yes", "no"]}
    tasks = [{"name": "caption", "prompt": "what is there ?"}, entails | {"answers": [[4], [5]]}]
    (checkpoint / "export.json").write_text(json.dumps({"tasks": tasks, "max_steps": 4}))
    plan = describe(checkpoint)
    assert [task.name for task in plan.tasks] == ["caption", "entails"]
    assert {(task.kind, task.lane) for task in plan.tasks} == {("generation", "decoder")}
    assert plan.tasks[1].answers == ((4,), (5,))
    assert plan.lanes[-1].loop is not None
    assert plan.lanes[-1].loop.max_steps == 4


def test_image_settings_may_be_told(checkpoint: Path) -> None:
    settings = {"size": [32, 32], "mode": "RGB", "resample": "bilinear", "mean": [0, 0, 0]}
    (checkpoint / "preprocessor.json").write_text(json.dumps(settings))
    image = describe(checkpoint).inputs.image
    assert image is not None
    assert (image.resample, image.mean, image.std) == ("bilinear", (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"size": [16, 16]}', "the model takes 'patch_images'"),
        ('{"size": [32, 32], "mode": "L"}', "preprocessor.json is not valid at mode"),
        ("[1]", "expected a JSON object"),
    ],
)
def test_image_settings_that_do_not_fit(checkpoint: Path, settings: str, message: str) -> None:
    (checkpoint / "preprocessor.json").write_text(settings)
    with pytest.raises(ExportError, match=message):
        describe(checkpoint)


@pytest.mark.parametrize("content", ["[]", "{", '{"model": 3}', '{"model": {"arch": "bart_base"}}'])
def test_other_configs_are_not_recognised(content: str, tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text(content)
    assert not OfaFamily().detect(tmp_path)
