"""int8 layers: made of proven float32 graphs, measured, and labelled everywhere."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from exeunt.engine.backends import open_backend
from exeunt.engine.bundle import Bundle
from exeunt.engine.bundle.reader import file_sha256
from exeunt.export import bundle as bundle_module
from exeunt.export.bundle import DEFAULT_TOLERANCE, ExportReport, export_bundle, write_bundle
from exeunt.export.errors import ExportError
from exeunt.export.families.registry import find_family
from exeunt.export.parity.report import parity_of
from exeunt.export.plan import SegmentPlan
from exeunt.export.quantise import INT8, INT8_TOLERANCE, quantise_layers, quantised
from exeunt.server.cli import export, inspect, predict
from tests.support.exported import EXAMPLES, write_checkpoint

TEXT = EXAMPLES[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source") / "tiny", layers=1)


@pytest.fixture(scope="module")
def int8(source: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    out = tmp_path_factory.mktemp("int8") / "bundle"
    return export_bundle(source, out, int8_tolerance=INT8_TOLERANCE)


def _operators(file: Path) -> set[str]:
    return {node.op_type for node in onnx.load(file).graph.node}


def test_layers_alone_are_quantised(exported: ExportReport, tmp_path: Path) -> None:
    root = Path(shutil.copytree(exported.out, tmp_path / "bundle"))
    manifest = quantise_layers(Bundle(root, exported.manifest))
    assert manifest.precision == INT8
    assert not manifest.batch_invariant
    for name, spec in manifest.segments.items():
        assert spec.sha256 == file_sha256(root / spec.file)
        is_layer = spec.kind == "layer"
        assert (spec.sha256 != exported.manifest.segments[name].sha256) == is_layer
        assert ("MatMulInteger" in _operators(root / spec.file)) == is_layer
    layer = onnx.load(root / manifest.segments["layer.01"].file).graph
    products = [node for node in layer.node if node.op_type == "MatMulInteger"]
    weights = {value.name: value for value in layer.initializer}
    assert {weights[node.input[1]].data_type for node in products} == {TensorProto.INT8}
    assert [value.name for value in layer.output] == ["next_hidden"]


def test_the_same_graph_gives_the_same_bytes(exported: ExportReport) -> None:
    file = exported.out / exported.manifest.segments["layer.01"].file
    first, second = (quantised("layer.01", onnx.load(file)) for _ in range(2))
    assert first == second
    assert b"pre_process" not in first


def test_a_layer_without_a_constant_product_is_refused(tmp_path: Path) -> None:
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")
    ]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "relu", ports[:1], ports[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    with pytest.raises(ExportError, match=r"'relu' has no matrix product .*--precision fp32"):
        quantised("relu", model)


def test_what_is_measured_are_the_int8_graphs(int8: ExportReport) -> None:
    parity = int8.parity
    assert parity.allowed == INT8_TOLERANCE
    for name, spec in int8.manifest.segments.items():
        assert spec.parity == parity.segment(name)
        assert (spec.parity.max_abs_error > DEFAULT_TOLERANCE) == (spec.kind == "layer")
    assert DEFAULT_TOLERANCE < parity.composed.max_abs_error <= INT8_TOLERANCE
    assert not parity.batch.bit_exact
    assert re.fullmatch(r"(layer|head)\.\d\d, \d rows of length \d+", parity.batch.worst)
    assert parity.real is not None
    assert 0.5 < parity.real.same_answers <= 1.0


def test_the_bundle_says_what_it_is(int8: ExportReport, exported: ExportReport) -> None:
    assert Bundle.open(int8.out).manifest == int8.manifest
    content = json.loads((int8.out / "manifest.json").read_text())
    assert content["format"] == 1
    assert content["precision"] == {"layers": "int8", "batch_invariant": False}
    assert "precision" not in json.loads((exported.out / "manifest.json").read_text())
    assert exported.manifest.batch_invariant


def test_a_row_moves_with_its_mates(int8: ExportReport) -> None:
    """The label is no caution: a mate of another scale does change a row."""
    segment = open_backend("onnxruntime", 2).load(int8.manifest, int8.out, "layer.01")
    hidden = np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32)
    hidden[1] *= 20
    mask = np.ones((2, 5), np.float32)
    together = segment.run({"hidden": hidden, "mask": mask})["next_hidden"]
    alone = segment.run({"hidden": hidden[:1], "mask": mask[:1]})["next_hidden"]
    assert np.abs(together[0] - alone[0]).max() > DEFAULT_TOLERANCE


def test_openvino_runs_it_too(int8: ExportReport) -> None:
    rng = np.random.default_rng(1)
    hidden, mask = rng.standard_normal((3, 5, 16)).astype(np.float32), np.ones((3, 5), np.float32)
    found, wanted = (
        open_backend(name, 2)
        .load(int8.manifest, int8.out, "layer.01")
        .run({"hidden": hidden, "mask": mask})["next_hidden"]
        for name in ("openvino", "onnxruntime")
    )
    np.testing.assert_allclose(found, wanted, atol=0.05)


@pytest.mark.parametrize(
    ("tolerance", "int8_tolerance", "message"),
    [
        (1e-4, 1e-4, r"composed model is off by .*--int8-tolerance \d"),
        (0.0, 10.0, r"is off by .*--tolerance"),  # the float32 graphs are proven first
    ],
)
def test_beyond_a_tolerance_nothing_is_left(
    tolerance: float,
    int8_tolerance: float,
    message: str,
    checkpoint: Path,
    exported: ExportReport,
    tmp_path: Path,
) -> None:
    def copy(segment: SegmentPlan, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        shutil.copyfile(exported.out / exported.manifest.segments[segment.name].file, file)

    with pytest.raises(ExportError, match=f"parity failed: .*{message}"):
        write_bundle(
            find_family(checkpoint).describe(checkpoint),
            tmp_path / "out",
            tolerance=tolerance,
            int8_tolerance=int8_tolerance,
            write=copy,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_impossible_tolerance_is_refused(tolerance: float, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="tolerance must be 0 or more"):
        export_bundle(source, tmp_path / "out", int8_tolerance=tolerance)


@pytest.mark.parametrize(("error", "tolerance"), [(0.013, 0.02), (0.7, 1.0), (37.5, 37.5)])
def test_the_ladder_reaches_what_int8_needs(error: float, tolerance: float) -> None:
    assert parity_of(error).tolerance == tolerance


def test_export_command_hands_int8_on_and_says_so(
    int8: ExportReport,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float | None] = []

    def exporting(source: Path, out: Path, **options: Any) -> ExportReport:
        asked.append(options["int8_tolerance"])
        return int8

    monkeypatch.setattr(bundle_module, "export_bundle", exporting)
    export.command(tmp_path, tmp_path / "out", precision=export.LayerPrecision.INT8)
    shown = capsys.readouterr().out
    assert "int8 layers: NOT batch-invariant" in shown
    assert f"of those to the {len(EXAMPLES)} examples are the whole model's" in shown
    export.command(tmp_path, tmp_path / "out", int8_tolerance=0.25)
    export.command(
        tmp_path, tmp_path / "out", precision=export.LayerPrecision.INT8, int8_tolerance=0.25
    )
    assert asked == [INT8_TOLERANCE, None, 0.25]


def test_inspect_says_so(
    int8: ExportReport,
    exported: ExportReport,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    inspect.command(int8.out)
    moved = f"by up to {int8.parity.batch.max_abs_error:.2g} when it was exported"
    shown = capsys.readouterr().out
    assert "int8 layers: NOT batch-invariant: a row's tensors, and so its exit, move" in shown
    assert moved in shown
    assert "engine.deterministic" in shown
    inspect.command(int8.out, as_json=True)
    assert json.loads(capsys.readouterr().out)["manifest"]["precision"]["layers"] == "int8"
    inspect.command(exported.out)
    assert "batch-invariant" not in capsys.readouterr().out


def test_predict_says_so(
    int8: ExportReport,
    exported: ExportReport,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (20, 20), "red").save(image)
    predict.command(image=[image], text=TEXT, bundle=int8.out, as_json=True)
    assert json.loads(capsys.readouterr().out)["batch_invariant"] is False
    predict.command(image=[image], text=TEXT, bundle=int8.out)
    assert "NOT batch-invariant" in capsys.readouterr().out
    predict.command(image=[image], text=TEXT, bundle=exported.out, as_json=True)
    assert "batch_invariant" not in json.loads(capsys.readouterr().out)
