"""The torch backend: loading, memory, threads and errors."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.backends.torch.graph import load_graph
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import BundleError, ConfigError, SegmentError
from exeunt.export.bundle import ExportReport
from tests.support.without import run_without

THREADS = EngineConfig().compute_threads


@pytest.fixture
def backend() -> Backend:
    return open_backend("torch", THREADS)


def _state(rows: int = 3, tokens: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    hidden = rng.standard_normal((rows, tokens, 16)).astype(np.float32)
    mask = (np.arange(tokens) < tokens - 2).astype(np.float32)
    return {"hidden": hidden, "mask": np.tile(mask, (rows, 1))}


def test_segment_equals_onnxruntime(exported: ExportReport, backend: Backend) -> None:
    other = open_backend("onnxruntime", THREADS)
    for rows, tokens in ((1, 6), (3, 7), (8, 15)):
        inputs = _state(rows, tokens)
        found = backend.load(exported.manifest, exported.out, "layer.02").run(inputs)
        wanted = other.load(exported.manifest, exported.out, "layer.02").run(inputs)
        np.testing.assert_allclose(found["next_hidden"], wanted["next_hidden"], atol=1e-5)
        assert found["next_hidden"].flags.c_contiguous


def test_segment_is_loaded_once(exported: ExportReport, backend: Backend) -> None:
    first = backend.load(exported.manifest, exported.out, "layer.01")
    assert backend.load(exported.manifest, exported.out, "layer.01") is first
    backend.close()
    assert backend.load(exported.manifest, exported.out, "layer.01") is not first


def test_inputs_may_be_read_only_and_outputs_are_the_callers(
    exported: ExportReport, backend: Backend
) -> None:
    segment = backend.load(exported.manifest, exported.out, "layer.01")
    inputs = _state()
    for array in inputs.values():
        array.flags.writeable = False
    first = segment.run(inputs)["next_hidden"]
    kept = first.copy()
    first[:] = np.nan
    np.testing.assert_array_equal(segment.run(inputs)["next_hidden"], kept)


def test_outputs_share_no_memory_with_inputs_or_constants(tmp_path: Path) -> None:
    value = onnx.numpy_helper.from_array(np.ones(2, np.float32), "constant")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2])
            for name in ("y", "constant")
        ],
        initializer=[value],
    )
    file = tmp_path / "x.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), file)
    loaded = load_graph("same", file)
    x = np.zeros(2, np.float32)
    found = loaded.run({"x": x})
    found["y"][:] = 5
    found["constant"][:] = 5
    assert x.tolist() == [0, 0]
    assert loaded.run({"x": x})["constant"].tolist() == [1, 1]


def test_wrong_inputs_name_the_segment_and_the_node(
    exported: ExportReport, backend: Backend
) -> None:
    segment = backend.load(exported.manifest, exported.out, "layer.01")
    with pytest.raises(SegmentError, match=r"'layer\.01' failed in torch.*mask"):
        segment.run({"hidden": _state()["hidden"]})
    with pytest.raises(SegmentError, match=r"'layer\.01' failed in torch: node .*Reshape"):
        segment.run({**_state(), "mask": np.ones((3, 5), np.float32)})


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _noise(file: Path) -> None:
    file.write_bytes(b"\xff" * 300)


def _newer_opset(file: Path) -> None:
    model = onnx.load(file)
    model.opset_import[0].version = 12
    onnx.save(model, file)


def _other_domain(file: Path) -> None:
    model = onnx.load(file)
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, file)


def _external(file: Path) -> None:
    model = onnx.load(file)
    tensor = next(value for value in model.graph.initializer if value.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    file.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_empty, "is no ONNX graph"),
        (_noise, "is no ONNX graph"),
        (lambda file: file.unlink(), "is no ONNX graph"),
        (_newer_opset, "has ONNX opset 12"),
        (_other_domain, r"operator com\.example\.\w+, which"),
        (_external, "in another file, which"),
    ],
)
def test_graph_that_cannot_run_is_refused(
    damage: Callable[[Path], None],
    message: str,
    exported: ExportReport,
    backend: Backend,
    tmp_path: Path,
) -> None:
    root = Path(shutil.copytree(exported.out, tmp_path / "bundle"))
    damage(root / exported.manifest.segments["layer.01"].file)
    with pytest.raises(BundleError, match=message):
        backend.load(exported.manifest, root, "layer.01")


def test_another_number_of_threads_is_refused(backend: Backend) -> None:
    with pytest.raises(ConfigError, match=f"runs torch on {THREADS} threads"):
        open_backend("torch", THREADS + 1)


def test_missing_library_is_named_with_its_extra() -> None:
    code = "from exeunt.engine.backends import open_backend; open_backend('torch', 1)"
    message = run_without(("torch",), code)
    assert "BackendUnavailable: the torch backend needs torch" in message
    assert "pip install 'exeunt[export]'" in message
    assert "needs torch and onnx" in run_without(("torch", "onnx"), code)
