"""`exeunt inspect` and `exeunt export` as commands."""

import json
import shutil
from pathlib import Path

import pytest

from exeunt.engine.bundle import Bundle
from exeunt.engine.bundle.reader import file_sha256
from exeunt.engine.errors import BundleError
from exeunt.export.bundle import ExportReport
from exeunt.export.errors import ExportError
from exeunt.export.parity.report import ParityReport
from exeunt.server.cli import export, inspect
from tests.support.without import run_without


def test_tables_show_the_whole_bundle(
    exported: ExportReport, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    inspect.command(exported.out)
    shown = capsys.readouterr().out
    for name, spec in exported.manifest.segments.items():
        assert name in shown
        assert spec.parity is not None
        assert f"{spec.parity.tolerance:g}" in shown
    for text in ("float32 [T, 16]", "int64 [S]", "circle", "bit for bit", "Exit policy: none"):
        assert text in shown


def test_json_holds_manifest_and_parity(
    exported: ExportReport, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect.command(exported.out, as_json=True)
    content = json.loads(capsys.readouterr().out)
    assert content["manifest"]["name"] == "demo"
    assert ParityReport.model_validate(content["parity"]) == exported.parity


def test_parity_report_of_another_form_is_refused(exported: ExportReport, tmp_path: Path) -> None:
    root = Path(shutil.copytree(exported.out, tmp_path / "bundle"))
    (root / "parity.json").write_text('{"format": 2}')
    content = json.loads((root / "manifest.json").read_text())
    content["files"]["parity.json"] = file_sha256(root / "parity.json")
    (root / "manifest.json").write_text(json.dumps(content))
    assert Bundle.open(root)
    with pytest.raises(BundleError, match=r"parity\.json is not valid at format"):
        inspect.command(root)


def test_inspect_needs_no_torch(exported: ExportReport) -> None:
    code = (
        "from pathlib import Path; from exeunt.server.cli import inspect;"
        f" inspect.command(Path({str(exported.out)!r}))"
    )
    assert run_without(("torch", "onnx", "onnxscript", "safetensors"), code) == ""


def test_export_command_hands_its_options_on(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="unknown family 'bert'"):
        export.command(checkpoint, tmp_path / "out", family="bert")
    with pytest.raises(ExportError, match="tolerance must be 0 or more"):
        export.command(checkpoint, tmp_path / "out", tolerance=-1.0)
    with pytest.raises(ExportError, match="lies in the checkpoint"):
        export.command(checkpoint, checkpoint / "out", overwrite=True)
