"""What export writes."""

import re
import shutil
from pathlib import Path

import onnx
import pytest
from safetensors.torch import load_file, save_file

from exeunt.engine.bundle import Bundle
from exeunt.engine.bundle.reader import MANIFEST_FILE, file_sha256
from exeunt.engine.errors import ExitPolicyError
from exeunt.export.bundle import ExportReport, export_bundle
from exeunt.export.errors import ExportError
from tests.support.exported import LABELS, write_checkpoint

POLICY = """
exit_policy:
  version: 3
  tasks: {default: {joint: {any: [{criterion: entropy, threshold: 0.25}]}}}
"""


def test_reader_opens_what_export_wrote(exported: ExportReport) -> None:
    manifest = Bundle.open(exported.out).manifest
    assert manifest == exported.manifest
    assert manifest.family == "demo"
    assert manifest.tasks[0].labels == LABELS
    lane = manifest.lane("joint")
    assert lane.layers == ("layer.01", "layer.02")
    assert lane.heads == {1: "head.01", 2: "head.02"}
    assert lane.compare == {"hidden": "mask"}
    assert manifest.tools["torch"]


def test_every_file_is_in_the_manifest(exported: ExportReport) -> None:
    manifest = exported.manifest
    listed = {segment.file for segment in manifest.segments.values()} | set(manifest.files)
    found = {
        str(file.relative_to(exported.out)) for file in exported.out.rglob("*") if file.is_file()
    }
    assert found == listed | {MANIFEST_FILE}
    assert exported.size_bytes == sum((exported.out / file).stat().st_size for file in found)


def test_the_same_checkpoint_gives_the_same_bytes(
    exported: ExportReport, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(exported.out, out)
    (out / "left-over.txt").write_text("of the bundle before")
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    steps: list[tuple[str, int, int]] = []
    again = export_bundle(
        checkpoint,
        out,
        name="renamed",
        exit_policy=policy,
        overwrite=True,
        progress=lambda *step: steps.append(step),
    )
    assert {name: spec.sha256 for name, spec in again.manifest.segments.items()} == {
        name: spec.sha256 for name, spec in exported.manifest.segments.items()
    }
    opened = Bundle.open(out).manifest
    assert opened.name == "renamed"
    assert opened.exit_policy == {
        "version": 3,
        "tasks": {"default": {"joint": {"any": [{"criterion": "entropy", "threshold": 0.25}]}}},
    }
    assert not (out / "left-over.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "policy.yaml"]
    assert steps[-1] == ("done", 8, 8)
    assert [step[1] for step in steps] == sorted(step[1] for step in steps)


def test_no_file_names_a_place_of_this_machine(exported: ExportReport, checkpoint: Path) -> None:
    absolute = re.compile(rb"/(home|root|tmp|usr|work|opt|var)/|\.py\b|" + str(checkpoint).encode())
    for file in exported.out.rglob("*"):
        if file.is_file():
            assert not absolute.search(file.read_bytes()), file


def test_graphs_name_their_dynamic_axes(exported: ExportReport) -> None:
    for name, spec in exported.manifest.segments.items():
        graph = onnx.load(exported.out / spec.file).graph
        assert [value.name for value in graph.input] == list(spec.inputs)
        assert [value.name for value in graph.output] == list(spec.outputs)
        assert graph.name == name
        for value in (*graph.input, *graph.output):
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    layer = onnx.load(exported.out / exported.manifest.segments["layer.01"].file).graph
    shape = layer.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", "T", 16]


def test_parity_is_reported_over_random_and_real_inputs(exported: ExportReport) -> None:
    parity = exported.parity
    assert parity.real is not None
    assert parity.real.samples == 4
    assert len(parity.real.lengths) > 1
    assert parity.random.samples > 20
    for measured in (parity.random, parity.real):
        assert set(measured.segments) == set(exported.manifest.segments)
        assert set(measured.composed) == {"head.01", "head.02"}
        assert measured.same_answers == 1.0
    assert parity.composed.tolerance <= 1e-5
    assert parity.batch.worst == ""  # said first, as the segment is what a failure needs
    assert parity.batch.bit_exact
    for name, spec in exported.manifest.segments.items():
        assert spec.parity == parity.segment(name)
    assert exported.manifest.files["parity.json"] == file_sha256(exported.out / "parity.json")


def test_failed_parity_leaves_nothing(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", layers=1, hidden=8)
    with pytest.raises(ExportError, match=r"parity failed: .* is off by .*--tolerance"):
        export_bundle(source, tmp_path / "out", tolerance=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_model_without_finite_answers_is_no_bundle(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", layers=1, hidden=8)
    weights = load_file(checkpoint / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] * float("nan")}, checkpoint / "model.safetensors")
    with pytest.raises(ExportError, match="not finite at"):
        export_bundle(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_exit_policy_must_fit_the_model(checkpoint: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.replace("joint", "fusion"))
    with pytest.raises(ExitPolicyError, match="fusion"):
        export_bundle(checkpoint, tmp_path / "out", exit_policy=policy)
    source = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, source)
    (source / "exit_policy.yaml").write_text(POLICY.replace("joint", "decoder"))
    with pytest.raises(ExitPolicyError, match="decoder"):  # the checkpoint's own, by default
        export_bundle(source, tmp_path / "out")
    policy.write_text(POLICY.replace("0.25", "[0.1, 0.2, 0.3]"))
    with pytest.raises(ExitPolicyError, match="2 layers"):
        export_bundle(checkpoint, tmp_path / "out", exit_policy=policy)
    assert not (tmp_path / "out").exists()
