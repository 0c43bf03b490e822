"""Checkpoints that are not what they are taken for: the error names the key and the family."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exeunt.export.errors import ExportError
from exeunt.export.families.options import SourceOptions
from exeunt.export.families.registry import describe, find_family, nearest_family
from tests.export.families.uniter_reference import shapes, write_checkpoint

QUERY = "uniter.encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path, "ve")
    return tmp_path


def edit(checkpoint: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = checkpoint / "ckpt/model_step_3.pt"
    weights = torch.load(file, weights_only=True)
    change(weights)
    torch.save(weights, file)


def configure(checkpoint: Path, **changes: object) -> None:
    file = checkpoint / "log/model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


MISFITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing key": (
        lambda c: edit(c, lambda w: w.pop(QUERY)),
        rf"lacks '{QUERY}', \[24, 24\] \(1 of the expected",
    ),
    "an extra key": (
        lambda c: edit(c, lambda w: w.update(adapter=torch.ones(2))),
        r"has 'adapter', \[2\], which is not expected \(1 tensors are not\)",
    ),
    "a shape": (
        lambda c: edit(c, lambda w: w.update({QUERY: torch.ones(24, 12)})),
        rf"'{QUERY}' has the shape \[24, 12\], expected \[24, 24\]",
    ),
    "a renamed key": (
        lambda c: edit(c, lambda w: w.update({"query": w.pop(QUERY)})),
        f"lacks '{QUERY}'.* it has 'query', which is not expected",
    ),
    "more layers": (lambda c: configure(c, num_hidden_layers=4), r"lacks '.*layer\.3\."),
    "fewer layers": (lambda c: configure(c, num_hidden_layers=2), r"has '.*layer\.2\.attention"),
    "a wider config": (lambda c: configure(c, hidden_size=48), "expected .*48"),
    "heads that do not divide": (
        lambda c: configure(c, num_attention_heads=5),
        "describes no model: hidden size 24 is not a multiple of 5 heads",
    ),
    "more words": (lambda c: configure(c, vocab_size=61), "embeds 60 words, .*says 61"),
    "another activation": (lambda c: configure(c, hidden_act="relu"), "not valid at hidden_act"),
    "no head": (
        lambda c: edit(c, lambda w: [w.pop(name) for name in list(w) if "vqa" in name]),
        "has no head of UNITER's: expected one of itm_output.weight",
    ),
    "no words": (
        lambda c: edit(c, lambda w: w.pop("uniter.embeddings.word_embeddings.weight")),
        "lacks 'uniter.embeddings.word_embeddings.weight'",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_misfit_is_named(misfit: str, checkpoint: Path) -> None:
    change, message = MISFITS[misfit]
    change(checkpoint)
    with pytest.raises(ExportError, match=message):
        describe(checkpoint)


def test_a_head_for_another_task_is_named(checkpoint: Path) -> None:
    with pytest.raises(ExportError, match=r"--task 'nlvr2' needs a head .* serves ve, vqa"):
        describe(checkpoint, options=SourceOptions(task="nlvr2"))
    with pytest.raises(ExportError, match="no --parity 'typo'; it knows reinit-poolers"):
        describe(checkpoint, options=SourceOptions(parity=("typo",)))


def test_the_wrong_family_names_the_nearest(checkpoint: Path) -> None:
    with pytest.raises(ExportError, match=r"has no exits.*--family uniter\)"):
        describe(checkpoint, "uniter-msd")
    (checkpoint / "log/model.json").unlink()
    with pytest.raises(ExportError, match=r"not a checkpoint of a family.*\(--family uniter\)"):
        find_family(checkpoint)
    with pytest.raises(ExportError, match=r"log/model.json is missing"):
        describe(checkpoint, "uniter")


def test_the_nearest_family_has_most_of_its_keys_there() -> None:
    keys = list(shapes("ve"))
    assert nearest_family(keys) == "uniter"
    assert nearest_family(["encoder.weight", "conv.bias"]) is None
    assert nearest_family([]) is None
