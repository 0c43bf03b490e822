"""X-VLM's and EfficientVLM's checkpoints that are not what they are taken for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exeunt.export.errors import ExportError
from exeunt.export.families.options import SourceOptions
from exeunt.export.families.registry import describe, nearest_family
from tests.export.families.test_xvlm import FFN, configure, random_model, write_checkpoint

QUERY = "text_encoder.encoder.layer.1.crossattention.self.query.weight"


def edit(source: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    file = source / "model_state_step_1.th"
    content = torch.load(file, weights_only=True)
    change(content["model"])
    torch.save(content, file)


MISFITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing key": (lambda c: edit(c, lambda w: w.pop(QUERY)), f"lacks '{QUERY}'"),
    "an extra key": (
        lambda c: edit(c, lambda w: w.update(bbox_head=torch.ones(2))),
        r"has 'bbox_head', \[2\], which is not expected",
    ),
    "no head": (
        lambda c: edit(c, lambda w: [w.pop(name) for name in list(w) if "cls_head" in name]),
        "no head of X-VLM's: expected one of text_decoder",
    ),
    "more layers": (
        lambda c: configure(c, "config.json", text_num_hidden_layers=5),
        r"lacks 'text_encoder\.encoder\.layer\.5\.",
    ),
    "no cross layers": (
        lambda c: configure(c, "config.json", text_num_hidden_layers=1),
        "fusion_layer 1 of 1 layers",
    ),
    "a wider vision encoder": (
        lambda c: configure(c, "config_vision.json", vision_width=30),
        r"class_embedding' has the shape \[24\], expected \[30\]",
    ),
    "heads that do not divide": (
        lambda c: configure(c, "config_text.json", num_attention_heads=5),
        "describes no model: hidden size 12 is not a multiple of 5 heads",
    ),
    "Swin": (lambda c: configure(c, "config.json", use_swin=True), "use_swin True"),
    "no text config": (lambda c: (c / "config_text.json").unlink(), "config_text.json is missing"),
    "no fusion layer": (
        lambda c: configure(c, "config_text.json", fusion_layer=None),
        "config_text.json is not valid at fusion_layer",
    ),
    "masks of another depth": (
        lambda c: edit(c, lambda w: w.update({"l0_module.text_int_loga": torch.ones(2, FFN)})),
        r"'l0_module.text_int_loga' has the shape \[2, 10\], expected \[1, 10\]",
    ),
    "masks that are no numbers": (
        lambda c: edit(c, lambda w: w["l0_module.cross_head_loga"].fill_(torch.nan)),
        "'l0_module.cross_head_loga' has numbers that are not finite",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_misfit_is_named(misfit: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "nlvr2", pruned=True)
    change, message = MISFITS[misfit]
    change(tmp_path)
    with pytest.raises(ExportError, match=message):
        describe(tmp_path)


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "vqa")
    with pytest.raises(ExportError, match=r"has no L0 masks.*--family xvlm\)"):
        describe(tmp_path, "efficientvlm")
    with pytest.raises(ExportError, match="'xvlm' knows no --parity 'intended-mask-rows'"):
        describe(tmp_path, options=SourceOptions(parity=("intended-mask-rows",)))
    with pytest.raises(ExportError, match="--task 'nlvr2' needs a head"):
        describe(tmp_path, options=SourceOptions(task="nlvr2"))
    (tmp_path / "labels.txt").write_text("yes\nno\n")
    with pytest.raises(ExportError, match="ranking a list of them is not supported"):
        describe(tmp_path, options=SourceOptions(labels=tmp_path / "labels.txt"))
    assert nearest_family(random_model(tmp_path, "vqa").state_dict()) == "xvlm"
