"""Reading checkpoints: what is loaded, what is refused and how it is to be mended."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from exeunt.export.errors import ExportError
from exeunt.export.families.ofa.checkpoint import load_model, save_model
from exeunt.export.families.ofa.config import config_of_cfg
from exeunt.export.families.ofa.model import OfaModel
from exeunt.export.families.registry import find_family
from tests.support.ofa import GOLDENS, TINY

Content = dict[str, Any]


def official() -> Content:
    content: Content = torch.load(GOLDENS / "checkpoint_mue.pt", weights_only=True)
    return content


def write(directory: Path, content: object) -> Path:
    torch.save(content, directory / "model.pt")
    return directory


def test_the_official_checkpoint_is_recognised_by_its_cfg() -> None:
    assert find_family(GOLDENS).name == "ofa"


def test_the_sizes_are_those_of_the_cfg() -> None:
    config = load_model(GOLDENS).config
    assert (config.hidden, config.ffn, config.heads, config.vocab) == (32, 64, 4, 300)
    assert (config.encoder_layers, config.decoder_layers) == (3, 3)
    assert (config.max_steps, config.max_source_length) == (13, 40)
    assert (config.stem_blocks, config.stem_width) == ((1, 1, 1), 4)


def test_weights_are_float32_and_tied() -> None:
    model = load_model(GOLDENS)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.decoder.output_projection.weight is model.encoder.embed_tokens.weight
    assert not model.training


def test_a_pickled_namespace_is_read_as_a_dict(tmp_path: Path) -> None:
    content = official()
    content["cfg"]["model"] = Namespace(**content["cfg"]["model"])
    assert load_model(write(tmp_path, content)).config == load_model(GOLDENS).config


def test_other_pickled_objects_are_refused(tmp_path: Path) -> None:
    content = official() | {"args": Path("x")}
    with pytest.raises(ExportError, match=r"can run any code.*pathlib.*torch\.save its tensors"):
        load_model(write(tmp_path, content))


def _without(key: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        del content["model"][key]

    return change


def _with(key: str, value: torch.Tensor) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["model"][key] = value

    return change


def _cfg(group: str, key: str, value: object) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["cfg"][group][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("encoder.layers.1.fc1.weight"), "lacks 1 tensors.*encoder.layers.1.fc1.weight"),
        (_with("encoder.layers.0.adapter.up.weight", torch.ones(2)), "does not speak of.*adapter"),
        (_with("encoder.pos_ln.weight", torch.ones(3)), r"shape \[3\], its config says \[32\]"),
        (_with("decoder.embed_tokens.weight", torch.ones(300, 32)), "shares all embeddings"),
        (_with("encoder.token_rp_bucket", torch.ones(1024, 1024)), "token_bucket_size 16"),
        (_cfg("model", "disable_entangle", False), "disable_entangle is False"),
        (_cfg("model", "activation_fn", "relu"), "activation_fn is 'relu'.*needs 'gelu'"),
        (_cfg("model", "decoder_embed_dim", 64), "decoder_embed_dim differs"),
        (_cfg("model", "resnet_type", "vit"), "resnet_type is 'vit'"),
        (_cfg("model", "encoder_layers", "three"), "encoder_layers"),
        (_cfg("model", "patch_image_size", 640), "40 tokens a side"),
        (_cfg("generation", "max_len_b", 200), "max_steps 201 is over"),
        (_cfg("task", "eval_args", "[1]"), "eval_args is .* expected a JSON object"),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[Content], None], message: str, tmp_path: Path
) -> None:
    content = official()
    change(content)
    with pytest.raises(ExportError, match=message):
        load_model(write(tmp_path, content))


def test_derived_buckets_may_be_there(tmp_path: Path) -> None:
    from exeunt.export.families.ofa.positions import token_bucket

    content = official()
    places = torch.arange(1024)
    buckets = token_bucket(places[:, None] - places[None, :], 16)
    content["model"]["encoder.token_rp_bucket"] = buckets
    load_model(write(tmp_path, content))


def test_the_longest_text_follows_the_checkpoints_own_evaluation() -> None:
    cfg = json.loads((GOLDENS / "cfg.json").read_text())
    cfg["task"]["eval_args"] = '{"beam": 5, "max_len_b": 16}'
    assert config_of_cfg(cfg).max_steps == 17


@pytest.mark.parametrize("content", [[1], {"cfg": {}}, {"model": {}, "cfg": None}])
def test_another_file_is_no_checkpoint(content: object, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no checkpoint of OFA"):
        load_model(write(tmp_path, content))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK damaged")
    with pytest.raises(ExportError, match=r"model\.pt (is damaged|holds pickled)"):
        load_model(tmp_path)


def test_two_checkpoints_are_one_too_many(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).touch()
    with pytest.raises(ExportError, match=r"one `\*\.pt`.*found \['a\.pt', 'b\.pt'\]"):
        load_model(tmp_path)


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text('{"image_bias": true}')
    with pytest.raises(ExportError, match=r"export\.json is not valid at image_bias"):
        load_model(tmp_path)


def test_our_own_format_gives_the_model_back(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = OfaModel(TINY)
    save_model(model, tmp_path)
    assert find_family(tmp_path).name == "ofa"
    again = load_model(tmp_path)
    assert again.config == TINY
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
