"""The whole model compiled for one shape, as a runtime of static batches may be given it.

With every size known, ONNX Runtime and OpenVINO fuse more. The full-depth baseline is entitled to
it: its batches have one shape.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from exeunt.bench.peers.cores import Cores
from exeunt.bench.peers.onnx_session import OnnxGraph
from exeunt.bench.peers.openvino_graph import openvino_graph
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
    cores: Cores,
    precision: Precision = "fp32",
) -> dict[str, LoadedSegment]:
    """Return the graph compiled for one shape, by the optimisers' setting.

    Args:
        manifest: the bundle's.
        file: the whole graph; see `whole_graph`.
        sizes: of every symbolic axis, `batch` included.
        backend: `onnxruntime` or `openvino`; no other compiles for a shape.
        cores: how many callers, and their compute threads.
        precision: of OpenVINO.

    Raises:
        ConfigError: the process has a thread pool of another size.
        BackendUnavailable: the backend's library is not installed.
    """
    if backend == "onnxruntime":
        threads = cores.pool_threads
        return {
            f"fixed shapes, without {SKIP_LAYER_NORM}": OnnxGraph(
                file, threads, [SKIP_LAYER_NORM], sizes
            ),
            f"fixed shapes, with {SKIP_LAYER_NORM}": OnnxGraph(file, threads, [], sizes),
        }
    if backend == "openvino":
        shapes = {
            name: [sizes[dim] if isinstance(dim, str) else dim for dim in (BATCH, *spec.shape)]
            for name, spec in manifest.tensors.items()
        }
        return {"fixed shapes": openvino_graph(manifest, file, cores, precision, shapes)}
    return {}
