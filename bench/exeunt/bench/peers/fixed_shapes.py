"""The whole model compiled for one shape, as a runtime of static batches may be given it.

With every size known, ONNX Runtime and OpenVINO fuse more. The full-depth baseline is entitled to
it: its batches have one shape.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from exeunt.bench.peers.onnx_session import OnnxGraph
from exeunt.bench.workloads.lane import BATCH
from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.bundle.manifest import Manifest

Precision = Literal["fp32", "bf16"]
SKIP_LAYER_NORM = "SkipLayerNormFusion"


def fixed_graphs(
    manifest: Manifest,
    file: Path,
    sizes: Mapping[str, int],
    *,
    backend: str,
    threads: int,
    precision: Precision = "fp32",
) -> dict[str, LoadedSegment]:
    """Return the graph compiled for one shape, by the optimisers' setting.

    Args:
        manifest: the bundle's.
        file: the whole graph; see `whole_graph`.
        sizes: of every symbolic axis, `batch` included.
        backend: `onnxruntime` or `openvino`; no other compiles for a shape.
        threads: compute threads, those of the engine.
        precision: of OpenVINO.

    Raises:
        ConfigError: the process has a thread pool of another size.
        BackendUnavailable: the backend's library is not installed.
    """
    if backend == "onnxruntime":
        return {
            f"fixed shapes, without {SKIP_LAYER_NORM}": OnnxGraph(
                file, threads, [SKIP_LAYER_NORM], sizes
            ),
            f"fixed shapes, with {SKIP_LAYER_NORM}": OnnxGraph(file, threads, [], sizes),
        }
    if backend == "openvino":
        return {"fixed shapes": _openvino(manifest, file, sizes, threads, precision)}
    return {}


def _openvino(
    manifest: Manifest, file: Path, sizes: Mapping[str, int], threads: int, precision: Precision
) -> LoadedSegment:
    from exeunt.engine.backends.openvino.backend import settings
    from exeunt.engine.backends.openvino.library import DEVICE, import_openvino, shared_core
    from exeunt.engine.backends.openvino.segment import OpenVinoSegment

    core = shared_core()
    model = core.read_model(str(file))
    model.reshape(
        {
            name: [sizes[dim] if isinstance(dim, str) else dim for dim in (BATCH, *spec.shape)]
            for name, spec in manifest.tensors.items()
        }
    )
    compiled = core.compile_model(model, DEVICE, settings(threads, precision))
    return OpenVinoSegment("whole", import_openvino(), compiled, manifest.tensors, ["logits"])
