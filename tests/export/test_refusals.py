"""Checkpoints and places that export refuses, before anything is traced."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from exeunt.export.bundle import export_bundle
from exeunt.export.errors import ExportError
from tests.support.without import run_without


def _edit(directory: Path, name: str, **changes: object) -> None:
    content = json.loads((directory / name).read_text())
    (directory / name).write_text(json.dumps({**content, **changes}))


def _truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _scramble(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"\xff" * 200)


def _pickle(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": [1.0]}))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "config.json.* is missing"),
    "config is no JSON": (lambda d: (d / "config.json").write_text("{"), "config.json is damaged"),
    "config in bytes": (
        lambda d: (d / "config.json").write_bytes(b"\xff\xfe"),
        "config.json is damaged",
    ),
    "unknown key": (lambda d: _edit(d, "config.json", depth=3), "not valid at depth"),
    "heads do not divide": (lambda d: _edit(d, "config.json", heads=3), "describes no model"),
    "deeper config": (lambda d: _edit(d, "config.json", layers=3), "does not fit"),
    "wider config": (lambda d: _edit(d, "config.json", hidden=32), "does not fit"),
    "truncated weights": (_truncate, "model.safetensors is damaged"),
    "scrambled weights": (_scramble, "model.safetensors is damaged"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    "pickled weights": (_pickle, "pytorch_model.bin is a pickle"),
    "no labels": (lambda d: (d / "labels.json").unlink(), "labels.json is missing"),
    "labels of another kind": (
        lambda d: (d / "labels.json").write_text("[1, 2]"),
        "labels.json is not valid at 0",
    ),
    "too few labels": (lambda d: (d / "labels.json").write_text('["a"]'), "has 1 labels"),
    "no image settings": (
        lambda d: (d / "preprocessor.json").unlink(),
        "preprocessor.json is missing",
    ),
    "unknown resampling": (
        lambda d: _edit(d, "preprocessor.json", resample="best"),
        "preprocessor.json is not valid at resample",
    ),
    "another size": (lambda d: _edit(d, "preprocessor.json", size=[64, 64]), "resizes to"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_refused(damage: str, checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, source)
    change, message = DAMAGES[damage]
    change(source)
    with pytest.raises(ExportError, match=message):
        export_bundle(source, tmp_path / "out", family="demo")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no directory: expected a checkpoint"):
        export_bundle(tmp_path / "nothing", tmp_path / "out")


def test_unknown_family_names_the_known_ones(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"unknown family 'flamingo': .* exports .*demo,"):
        export_bundle(checkpoint, tmp_path / "out", family="flamingo")
    (tmp_path / "config.json").write_text('{"model_type": "flamingo"}')
    with pytest.raises(ExportError, match=r"not a checkpoint of a family .*\(.*demo, .*ofa.*\)"):
        export_bundle(tmp_path, tmp_path.parent / "out")


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_impossible_tolerance_is_refused(
    tolerance: float, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="tolerance must be 0 or more"):
        export_bundle(checkpoint, tmp_path / "out", tolerance=tolerance)


@pytest.mark.parametrize("name", ["", "a b", "../x", "é"])
def test_impossible_name_is_refused(name: str, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not be valid at name"):
        export_bundle(checkpoint, tmp_path / "out", name=name)


def test_out_is_never_a_place_that_holds_something_else(checkpoint: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("mine")
    with pytest.raises(ExportError, match=r"is not empty: .*--overwrite"):
        export_bundle(checkpoint, full)
    with pytest.raises(ExportError, match="no bundle"):
        export_bundle(checkpoint, full, overwrite=True)
    with pytest.raises(ExportError, match="is no directory"):
        export_bundle(checkpoint, full / "thesis.tex", overwrite=True)
    link = tmp_path / "link"
    link.symlink_to(full)
    with pytest.raises(ExportError, match="is no directory"):
        export_bundle(checkpoint, link, overwrite=True)
    assert (full / "thesis.tex").read_text() == "mine"


def test_out_and_source_do_not_hold_each_other(checkpoint: Path) -> None:
    with pytest.raises(ExportError, match="lies in the checkpoint"):
        export_bundle(checkpoint, checkpoint / "bundle")
    with pytest.raises(ExportError, match="lies in the checkpoint"):
        export_bundle(checkpoint, checkpoint, overwrite=True)
    with pytest.raises(ExportError, match="holds the checkpoint"):
        export_bundle(checkpoint, checkpoint.parent, overwrite=True)


def test_missing_libraries_are_named_with_their_extra() -> None:
    code = "from exeunt.export.requirements import require_libraries; require_libraries()"
    message = run_without(("torch", "onnxscript"), code)
    assert "export needs torch, onnxscript: run `pip install 'exeunt[export]'`" in message
    message = run_without(("onnxruntime",), code)
    assert "export needs onnxruntime: run `pip install 'exeunt[cpu]'`" in message
