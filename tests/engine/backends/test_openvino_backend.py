"""The OpenVINO backend: loading, memory, threads and errors."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exeunt.engine import Engine
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.backends.base import Tensors
from exeunt.engine.backends.openvino import backend as openvino_backend
from exeunt.engine.backends.openvino import library
from exeunt.engine.backends.openvino.segment import OpenVinoSegment
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import BackendUnavailable, BundleError, ConfigError, SegmentError
from exeunt.export.bundle import ExportReport
from tests.support.without import run_without

THREADS = [1, pytest.param(2, marks=pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="this process may use one core alone"
))]  # fmt: skip
WITHIN = 1e-5


@pytest.fixture
def backend() -> Backend:
    return open_backend("openvino", 1)


def _state(rows: int = 3, tokens: int = 7, seed: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((rows, tokens, 16)).astype(np.float32)
    mask = (np.arange(tokens) < tokens - 2).astype(np.float32)
    return {"hidden": hidden, "mask": np.tile(mask, (rows, 1))}


def _limited(tmp_path: Path, threads: int) -> OpenVinoSegment:
    """A graph that takes at most four tokens, as one with learned positions does."""
    ints = [
        onnx.numpy_helper.from_array(np.array([value], np.int64), name)
        for name, value in (("zero", 0), ("one", 1), ("two", 2))
    ]
    positions = onnx.numpy_helper.from_array(np.ones((1, 4, 3), np.float32), "positions")
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "one", "two"], ["tokens"]),
        helper.make_node("Slice", ["positions", "zero", "tokens", "one"], ["seen"]),
        helper.make_node("Add", ["x", "seen"], ["y"]),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "T", 3])
        for name in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "limited", ports[:1], ports[1:], [*ints, positions])
    return _compiled(graph, tmp_path, threads)


def _compiled(graph: onnx.GraphProto, tmp_path: Path, threads: int) -> OpenVinoSegment:
    file = tmp_path / f"{graph.name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), file)
    compiled = library.shared_core().compile_model(
        str(file), "CPU", openvino_backend.settings(threads, "fp32")
    )
    names = [[value.name for value in ports] for ports in (graph.input, graph.output)]
    return OpenVinoSegment(graph.name, library.import_openvino(), compiled, *names)


@pytest.mark.parametrize("threads", THREADS)
def test_segment_equals_onnxruntime(threads: int, exported: ExportReport) -> None:
    """In float32, also where the CPU has bfloat16, which OpenVINO would take by itself."""
    backend, other = open_backend("openvino", threads), open_backend("onnxruntime", 2)
    for rows, tokens in ((1, 6), (3, 7), (8, 15)):
        inputs = _state(rows, tokens)
        found = backend.load(exported.manifest, exported.out, "layer.02").run(inputs)
        wanted = other.load(exported.manifest, exported.out, "layer.02").run(inputs)
        np.testing.assert_allclose(found["next_hidden"], wanted["next_hidden"], atol=WITHIN)
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
    before = {name: array.copy() for name, array in inputs.items()}
    for array in inputs.values():
        array.flags.writeable = False
    first = segment.run(inputs)["next_hidden"]
    kept = first.copy()
    segment.run(_state(rows=5, seed=8))
    np.testing.assert_array_equal(first, kept)
    first[:] = np.nan
    np.testing.assert_array_equal(segment.run(inputs)["next_hidden"], kept)
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("threads", THREADS)
def test_bound_memory_is_read_and_written_in_place(threads: int, exported: ExportReport) -> None:
    segment = open_backend("openvino", threads).load(exported.manifest, exported.out, "layer.01")
    inputs, others = _state(), _state(rows=5, seed=4)
    outputs = {"next_hidden": np.full((3, 7, 16), np.nan, np.float32)}
    more = {"next_hidden": np.full((5, 7, 16), np.nan, np.float32)}
    call, other = segment.bind(inputs, outputs), segment.bind(others, more)
    for seed in (5, 6):
        inputs["hidden"][:] = _state(seed=seed)["hidden"]
        call()
        other()
        wanted = segment.run({name: array.copy() for name, array in inputs.items()})
        np.testing.assert_array_equal(outputs["next_hidden"], wanted["next_hidden"])
        np.testing.assert_array_equal(more["next_hidden"], segment.run(others)["next_hidden"])


def test_a_binding_keeps_its_memory_alive(exported: ExportReport, backend: Backend) -> None:
    segment = backend.load(exported.manifest, exported.out, "layer.01")
    out = np.empty((3, 7, 16), np.float32)
    call = segment.bind(_state(), {"next_hidden": out})
    rubble = [np.full((3, 7, 16), np.nan, np.float32) for _ in range(50)]
    call()
    assert len(rubble) == 50
    np.testing.assert_array_equal(out, segment.run(_state())["next_hidden"])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"next_hidden": np.empty((3, 7, 16), np.float64)}, "precision"),
        ({"next_hidden": np.empty((3, 7, 15), np.float32)}, "incompatible"),
        ({"next_hidden": np.empty((2, 7, 16), np.float32)}, "shape"),
        ({"next_hidden": np.empty((4, 7, 16), np.float32)}, r"answered \(3, 7, 16\)"),
        ({"other": np.empty((3, 7, 16), np.float32)}, "next_hidden"),
    ],
)
def test_memory_that_does_not_fit_is_refused(
    outputs: dict[str, np.ndarray], message: str, exported: ExportReport, backend: Backend
) -> None:
    segment = backend.load(exported.manifest, exported.out, "layer.01")
    with pytest.raises(SegmentError, match=rf"'layer\.01'.*{message}"):
        segment.bind(_state(), outputs)()


def test_outputs_share_no_memory_with_inputs_or_constants(tmp_path: Path) -> None:
    value = onnx.numpy_helper.from_array(np.ones(2, np.float32), "one")
    nodes = [helper.make_node("Identity", [name], [to]) for name, to in (("x", "y"), ("one", "z"))]
    ports = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])
        for name in ("x", "y", "z")
    }
    graph = helper.make_graph(nodes, "same", [ports["x"]], [ports["y"], ports["z"]], [value])
    segment = _compiled(graph, tmp_path, 1)
    x = np.zeros(2, np.float32)
    found = segment.run({"x": x})
    found["y"][:] = 5
    found["z"][:] = 5
    assert x.tolist() == [0, 0]
    assert segment.run({"x": x})["z"].tolist() == [1, 1]


def test_start_up_runs_every_batch_size(
    exported: ExportReport, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch in service is the first of its size: OpenVINO compiles kernels for each."""
    bound: set[int] = set()
    bind = OpenVinoSegment.bind

    def noted(segment: OpenVinoSegment, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        bound.add(len(next(iter(inputs.values()))))
        return bind(segment, inputs, outputs)

    monkeypatch.setattr(OpenVinoSegment, "bind", noted)
    config = {"max_batch_rows": 5, "threads": 1}
    with Engine.open(Bundle.open(exported.out), config, backend=backend):
        assert bound == {1, 2, 3, 4, 5}


def test_one_segment_runs_in_several_threads(exported: ExportReport, backend: Backend) -> None:
    segment = backend.load(exported.manifest, exported.out, "layer.01")
    cases = [_state(rows=1 + seed % 4, seed=seed) for seed in range(12)]
    wanted = [segment.run(case)["next_hidden"] for case in cases]

    def repeat(place: int) -> None:
        for _ in range(20):
            np.testing.assert_array_equal(segment.run(cases[place])["next_hidden"], wanted[place])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(repeat, range(len(cases))))


@pytest.mark.parametrize("threads", THREADS)
def test_a_failing_graph_never_leaves_an_old_answer(threads: int, tmp_path: Path) -> None:
    """With one stream of one thread OpenVINO says nothing, and the output stays as it was."""
    segment = _limited(tmp_path, threads)
    good, bad = np.zeros((2, 4, 3), np.float32), np.zeros((2, 6, 3), np.float32)
    for _ in range(5):
        np.testing.assert_array_equal(segment.run({"x": good})["y"], good + 1)
        with pytest.raises(SegmentError, match=r"'limited' failed in OpenVINO: .*mismatch"):
            segment.run({"x": bad})
        with pytest.raises(SegmentError, match=r"'limited' failed in OpenVINO: .*mismatch"):
            segment.bind({"x": bad}, {"y": np.empty_like(bad)})()


def test_wrong_inputs_name_the_segment(exported: ExportReport, backend: Backend) -> None:
    segment = backend.load(exported.manifest, exported.out, "layer.01")
    state = _state()
    wrong = [
        ({"hidden": state["hidden"]}, "the input 'mask' is missing"),
        ({**state, "mask": np.ones((3, 5), np.float32)}, ".*"),
        ({**state, "hidden": state["hidden"].astype(np.float64)}, ".*precision"),
        ({**state, "hidden": state["hidden"][:, ::2]}, ".*contiguous"),
    ]
    for inputs, message in wrong:
        with pytest.raises(SegmentError, match=rf"'layer\.01' failed in OpenVINO: {message}"):
            segment.run(inputs)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\xff" * 300),
        lambda file: file.unlink(),
    ],
    ids=["empty", "noise", "missing"],
)
def test_graph_that_cannot_be_read_is_refused(
    damage: Callable[[Path], None], exported: ExportReport, backend: Backend, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(exported.out, tmp_path / "bundle"))
    damage(root / exported.manifest.segments["layer.01"].file)
    with pytest.raises(BundleError, match=r"OpenVINO cannot load .*layer\.01\.onnx: .+; export"):
        backend.load(exported.manifest, root, "layer.01")


def test_graph_without_a_tensor_of_the_manifest_is_refused(
    exported: ExportReport, backend: Backend
) -> None:
    spec = exported.manifest.segments["layer.01"]
    renamed = spec.model_copy(update={"outputs": {"other": "hidden"}})
    manifest = exported.manifest.model_copy(
        update={"segments": {**exported.manifest.segments, "layer.01": renamed}}
    )
    with pytest.raises(BundleError, match=r"layer\.01\.onnx: .*'other'"):
        backend.load(manifest, exported.out, "layer.01")


def test_one_thread_is_the_callers_own(exported: ExportReport) -> None:
    segment = open_backend("openvino", 1).load(exported.manifest, exported.out, "layer.01")
    inputs = _state(rows=64, tokens=64)
    segment.run(inputs)
    process_s, thread_s = time.process_time(), time.thread_time()
    for _ in range(30):
        segment.run(inputs)
    own = (time.thread_time() - thread_s) / (time.process_time() - process_s)
    assert own > 0.9


def test_more_threads_than_there_are_is_refused(exported: ExportReport) -> None:
    """OpenVINO would silently take fewer, and one thread needs other settings."""
    cores = len(os.sched_getaffinity(0))
    backend = open_backend("openvino", 512)
    with pytest.raises(ConfigError, match=rf"runs {cores} threads .* 512 were .*: set threads to"):
        backend.load(exported.manifest, exported.out, "layer.01")


def test_bf16_needs_a_cpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "capabilities", lambda: frozenset({"FP32", "INT8"}))
    with pytest.raises(
        ConfigError, match=r"bf16 needs a CPU .*only FP32, INT8 here: set precision"
    ):
        open_backend("openvino", 1, "bf16")
    open_backend("openvino", 1, "fp32")


@pytest.mark.parametrize("name", ["onnxruntime", "torch", "fake"])
def test_bf16_needs_the_openvino_backend(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} computes in fp32 alone.*backend to openvino"):
        open_backend(name, 1, "bf16")


def test_a_machine_that_openvino_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        available_devices = ("GPU",)

    class Silent:
        available_devices = ("CPU",)

        def get_property(self, device: str, name: str) -> list[str]:
            raise RuntimeError(f"Exception from core.cpp:2:\nno {name} of {device}\n")

    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("Exception from core.cpp:1:\nno plugins.xml\n")

    library.shared_core.cache_clear()
    try:
        monkeypatch.setattr(library.import_openvino(), "Core", Core)
        with pytest.raises(BackendUnavailable, match=r"only on \['GPU'\]: choose the backend"):
            open_backend("openvino", 1)
        library.shared_core.cache_clear()
        monkeypatch.setattr(library.import_openvino(), "Core", Silent)
        with pytest.raises(BackendUnavailable, match="compute in: no OPTIMIZATION_CAPABILITIES of"):
            open_backend("openvino", 1, "bf16")
        library.shared_core.cache_clear()
        monkeypatch.setattr(library.import_openvino(), "Core", Broken)
        with pytest.raises(BackendUnavailable, match=r"cannot start here: no plugins\.xml$"):
            open_backend("openvino", 1)
    finally:
        monkeypatch.undo()
        library.shared_core.cache_clear()


def test_missing_library_is_named_with_its_extra() -> None:
    code = "from exeunt.engine.backends import open_backend; open_backend('openvino', 1)"
    message = run_without(("openvino",), code)
    assert "BackendUnavailable: OpenVINO is not installed" in message
    assert "pip install 'exeunt[openvino]'" in message


IMPORTS_QUIETLY = """
import sys
heard = []
sys.addaudithook(lambda event, _: heard.append(event) if event.startswith("socket.") else None)
from exeunt.engine.backends import open_backend
open_backend("openvino", 1)
assert "openvino" in sys.modules
assert "openvino_telemetry" not in sys.modules
assert not heard, heard
"""


def test_importing_openvino_reports_to_nobody(tmp_path: Path) -> None:
    """Its package would call an analytics service, and write a client's id to the home directory.

    CI is taken out of the environment, for there it keeps quiet by itself.
    """
    kept = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_QUIETLY],
        env={**kept, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
