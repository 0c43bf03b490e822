"""Damaged, truncated and newer bundles: each is refused by an error that says what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exeunt.engine.bundle import Bundle
from exeunt.engine.bundle.reader import MAX_MANIFEST_BYTES
from exeunt.engine.errors import BundleError
from exeunt.export.bundle import ExportReport
from exeunt.server.cli import inspect

SEGMENT = "segments/layer.01.onnx"


@pytest.fixture
def bundle(exported: ExportReport, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.out, tmp_path / "bundle"))


def _edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = root / "manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _grow(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(MAX_MANIFEST_BYTES + 1)  # sparse: takes no disk


def _segment(root: Path, **changes: object) -> None:
    _edit(root, lambda content: content["segments"]["layer.01"].update(changes))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit of a graph": (
        lambda root: _flip(root / SEGMENT),
        r"layer\.01\.onnx is damaged: .*export the bundle again",
    ),
    "truncated graph": (lambda root: _cut(root / SEGMENT), r"layer\.01\.onnx is damaged"),
    "missing graph": (
        lambda root: (root / SEGMENT).unlink(),
        r"layer\.01\.onnx is missing: copy the whole bundle",
    ),
    "a directory for a graph": (
        lambda root: _to_folder(root / SEGMENT),
        r"layer\.01\.onnx is missing",
    ),
    "missing tokenizer": (
        lambda root: (root / "tokenizer.json").unlink(),
        r"tokenizer\.json is missing",
    ),
    "damaged parity report": (lambda root: _cut(root / "parity.json"), r"parity\.json is damaged"),
    "missing manifest": (
        lambda root: (root / "manifest.json").unlink(),
        r"manifest\.json is missing: .*`exeunt export`",
    ),
    "truncated manifest": (
        lambda root: _cut(root / "manifest.json"),
        r"manifest\.json is damaged .*copy or export",
    ),
    "manifest not UTF-8": (
        lambda root: (root / "manifest.json").write_bytes(b'{"format": "\xff"}'),
        r"manifest\.json is damaged",
    ),
    "manifest without end": (
        lambda root: (root / "manifest.json").write_text("[" * 200_000),
        r"manifest\.json is damaged",
    ),
    "manifest of another kind": (
        lambda root: (root / "manifest.json").write_text("[1]"),
        r"manifest\.json is not valid",
    ),
    "huge manifest": (lambda root: _grow(root / "manifest.json"), r"manifest\.json is over"),
    "newer format": (
        lambda root: _edit(root, lambda content: content.update(format=2, lanes="other")),
        r"manifest\.json has format 2, this version reads 1: upgrade exeunt",
    ),
    "format of no version": (
        lambda root: _edit(root, lambda content: content.update(format="1")),
        r"manifest\.json is not valid at format",
    ),
    "unknown key": (
        lambda root: _edit(root, lambda content: content.update(extra=1)),
        r"manifest\.json is not valid at extra",
    ),
    "unknown key of a segment": (
        lambda root: _segment(root, code="import os"),
        r"not valid at segments\.layer\.01\.code",
    ),
    "file above the bundle": (
        lambda root: _segment(root, file="../outside.onnx"),
        r"not valid at segments\.layer\.01\.file",
    ),
    "file beside a folder": (
        lambda root: _segment(root, file="segments/../../outside.onnx"),
        r"not valid at segments\.layer\.01\.file",
    ),
    "absolute file": (
        lambda root: _segment(root, file="/etc/passwd"),
        r"not valid at segments\.layer\.01\.file",
    ),
    "other file above the bundle": (
        lambda root: _edit(root, lambda content: content["files"].update({"../x": "0" * 64})),
        r"not valid at files",
    ),
    "another digest": (lambda root: _segment(root, sha256="0" * 64), r"layer\.01\.onnx is damaged"),
    "no digest": (
        lambda root: _segment(root, sha256="md5"),
        r"not valid at segments\.layer\.01\.sha256",
    ),
    "head that is not there": (
        lambda root: _edit(
            root, lambda content: content["lanes"][0]["heads"].update({"1": "head.99"})
        ),
        r"'head\.99', which is not there",
    ),
    "too few labels": (
        lambda root: _edit(root, lambda content: content["tasks"][0].update(labels=["a"])),
        r"has 1 labels",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bundle_is_refused(damage: str, bundle: Path) -> None:
    change, message = DAMAGES[damage]
    change(bundle)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(bundle)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match=message):
        inspect.command(bundle)


def test_place_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no directory"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises(BundleError, match="is no bundle"):
        Bundle.open(tmp_path)
