"""The whole model for batches of any shape, as full depth's baseline may be given it."""

from pathlib import Path
from typing import Literal

from exeunt.bench.peers.cores import Cores
from exeunt.bench.peers.fixed_shapes import SKIP_LAYER_NORM
from exeunt.bench.peers.onnx_session import OnnxGraph
from exeunt.bench.peers.openvino_graph import openvino_graph
from exeunt.engine.backends.base import Backend, LoadedSegment
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ConfigError


def static_graphs(
    bundle: Bundle,
    backend: Backend,
    cores: Cores,
    precision: Literal["fp32", "bf16"] = "fp32",
    cache_dir: Path | None = None,
) -> dict[str, LoadedSegment]:
    """Return the whole model by the graph optimisers' setting.

    Under ONNX Runtime the engine's own setting and the library's are there; the other backends have
    one.

    Args:
        bundle: of one lane.
        backend: the engine's; the graph is loaded as it loads the segments.
        cores: how many callers, and their compute threads.
        precision: the backend's.
        cache_dir: where the graph is kept; see `bench_cache`.

    Raises:
        ConfigError: the bundle is not of one lane, the cache cannot be written, or the backend has
            but one way to use the cores.
    """
    from exeunt.bench.workloads.whole import load_whole, whole_graph  # needs onnx

    file = whole_graph(bundle, "last", cache_dir=cache_dir)
    if backend.name == "onnxruntime":
        return {
            f"without {SKIP_LAYER_NORM}": load_whole(backend, bundle, "last", file),
            f"with {SKIP_LAYER_NORM}": OnnxGraph(file, cores.pool_threads, []),
        }
    if backend.name == "openvino":
        return {"default": openvino_graph(bundle.manifest, file, cores, precision)}
    if cores.callers == 1:
        return {"default": load_whole(backend, bundle, "last", file)}
    raise ConfigError(
        f"full depth under {backend.name} is measured with one stream alone: expected onnxruntime"
        " or openvino for several"
    )
