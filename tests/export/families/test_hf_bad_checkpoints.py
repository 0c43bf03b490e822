"""Hugging Face checkpoints that are incomplete, damaged, of another head, or in half precision."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from exeunt.export.errors import ExportError
from exeunt.export.families.options import SourceOptions
from exeunt.export.families.registry import describe
from exeunt.export.parity.cases import random_cases
from exeunt.export.plan import BundlePlan
from tests.support.goldens import COPIES

FOLDERS = ("hf_vilt_vqa", "hf_visualbert_vqa", "hf_lxmert_vqa", "hf_clip", "hf_blip_itm")
LAST_NORM = {
    "hf_vilt_vqa": "vilt.layernorm.weight",
    "hf_visualbert_vqa": "visual_bert.embeddings.LayerNorm.weight",
    "hf_lxmert_vqa": "lxmert.embeddings.LayerNorm.weight",
    "hf_clip": "vision_model.pre_layrnorm.weight",
    "hf_blip_itm": "vision_model.post_layernorm.weight",
}


def copy(name: str, out: Path) -> Path:
    """Copy a golden's checkpoint, without its inputs and outputs."""
    out.mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copyfile(COPIES / name / file, out / file)
    return out


def change_config(source: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = source / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def change_weights(source: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = source / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_missing_tensor_is_named(name: str, tmp_path: Path) -> None:
    source = copy(name, tmp_path / name)
    change_weights(source, lambda weights: weights.pop(LAST_NORM[name]))
    with pytest.raises(ExportError, match=rf"lacks '{LAST_NORM[name]}'"):
        describe(source)


@pytest.mark.parametrize("name", FOLDERS)
def test_an_extra_tensor_is_named(name: str, tmp_path: Path) -> None:
    source = copy(name, tmp_path / name)
    change_weights(source, lambda weights: weights.update({"adapter.down": torch.zeros(2)}))
    with pytest.raises(ExportError, match=r"'adapter\.down', \[2\], which is not expected"):
        describe(source)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_shape_that_does_not_fit_is_named(name: str, tmp_path: Path) -> None:
    source = copy(name, tmp_path / name)
    key = LAST_NORM[name]
    change_weights(source, lambda weights: weights.update({key: torch.zeros(3)}))
    with pytest.raises(ExportError, match=rf"'{key}' has the shape \[3\], expected"):
        describe(source)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FOLDERS)
def test_half_precision_is_read_as_float32(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    source = copy(name, tmp_path / name)

    def halve(weights: dict[str, torch.Tensor]) -> None:
        weights |= {key: tensor.to(dtype) for key, tensor in weights.items()}

    change_weights(source, halve)
    for logits in answers(describe(source)).values():
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


def answers(plan: BundlePlan) -> dict[str, torch.Tensor]:
    case = random_cases(plan)[0]
    with torch.inference_mode():
        return plan.whole({name: torch.from_numpy(array) for name, array in case.tensors.items()})


@pytest.mark.parametrize("name", FOLDERS)
def test_buffers_of_older_files_are_left_out(name: str, tmp_path: Path) -> None:
    source = copy(name, tmp_path / name)
    weights = load_file(source / "model.safetensors")
    stems = {key.partition(".position_embedding")[0] for key in weights if ".position_emb" in key}
    texts = [stem for stem in stems if "text" in stem or "vision" not in stem]
    places = {f"{stem}.position_ids": torch.arange(4)[None] for stem in texts}
    places = {name: ids for name, ids in places.items() if name != "vilt.embeddings.position_ids"}
    assert places
    save_file({**weights, **places}, source / "model.safetensors")
    describe(source)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("hf_vilt_vqa", "ViltForMaskedLM"),
        ("hf_visualbert_vqa", "VisualBertForPreTraining"),
        ("hf_lxmert_vqa", "LxmertForPreTraining"),
        ("hf_clip", "CLIPTextModel"),
        ("hf_blip_itm", "BlipForConditionalGeneration"),
    ],
)
def test_another_head_is_refused_with_those_that_are_known(
    name: str, architecture: str, tmp_path: Path
) -> None:
    source = copy(name, tmp_path / name)
    change_config(source, lambda config: config.update(architectures=[architecture]))
    with pytest.raises(ExportError, match=rf"names {architecture} under `architectures`: expected"):
        describe(source)


def test_a_head_for_another_task_is_refused() -> None:
    with pytest.raises(ExportError, match=r"--task 'nlvr2' needs a head .* serves vqa"):
        describe(COPIES / "hf_vilt_vqa", options=SourceOptions(task="nlvr2"))


def test_a_wrong_family_is_told_the_right_one() -> None:
    with pytest.raises(ExportError, match=r"--family vilt"):
        describe(COPIES / "hf_vilt_vqa", "visualbert")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("hf_vilt_vqa", "hidden_size", "wide"),
        ("hf_visualbert_vqa", "bypass_transformer", True),
        ("hf_visualbert_vqa", "hidden_act", "relu"),
        ("hf_lxmert_vqa", "visual_pos_dim", 6),
    ],
)
def test_a_config_that_cannot_be_is_named(
    name: str, key: str, value: object, tmp_path: Path
) -> None:
    source = copy(name, tmp_path / name)
    change_config(source, lambda config: config.update({key: value}))
    with pytest.raises(ExportError, match=rf"config\.json is not valid at {key}"):
        describe(source)


def test_heads_that_do_not_divide_the_width_are_named(tmp_path: Path) -> None:
    source = copy("hf_lxmert_vqa", tmp_path / "lxmert")
    change_config(source, lambda config: config.update(num_attention_heads=5))
    with pytest.raises(ExportError, match=r"is not a multiple of 5 heads"):
        describe(source)


def test_a_directory_without_config_is_refused(tmp_path: Path) -> None:
    source = copy("hf_clip", tmp_path / "clip")
    (source / "config.json").unlink()
    with pytest.raises(ExportError, match=r"--family clip"):
        describe(source)


def test_labels_come_from_the_config_where_somebody_has_named_them(tmp_path: Path) -> None:
    source = copy("hf_vilt_vqa", tmp_path / "vilt")
    assert describe(source).tasks[0].labels == ()
    count = load_file(source / "model.safetensors")["classifier.3.bias"].shape[0]
    named = {str(place): f"answer {place}" for place in range(count)}
    change_config(source, lambda config: config.update(id2label=named))
    assert describe(source).tasks[0].labels == tuple(named.values())
    change_config(source, lambda config: config["id2label"].pop("0"))
    with pytest.raises(ExportError, match=rf"names {count - 1} labels .* answers {count}"):
        describe(source)
