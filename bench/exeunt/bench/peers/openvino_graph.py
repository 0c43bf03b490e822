"""The whole model under OpenVINO, for one caller or for several at the same time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from exeunt.bench.peers.cores import Cores
from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.backends.openvino.backend import settings
from exeunt.engine.backends.openvino.library import DEVICE, import_openvino, shared_core
from exeunt.engine.backends.openvino.segment import OpenVinoSegment
from exeunt.engine.bundle.manifest import Manifest


def openvino_graph(
    manifest: Manifest,
    file: Path,
    cores: Cores,
    precision: Literal["fp32", "bf16"],
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> LoadedSegment:
    """Return the graph, compiled with the engine's own settings.

    For several callers it has a stream for each: a graph without lets one call in at a time. That
    is the library's own way to serve several, and they share the weights.

    Args:
        manifest: the bundle's.
        file: the whole graph; see `whole_graph`.
        cores: how many callers, and their compute threads.
        precision: what matrix products are computed in.
        shapes: of every input, the batch first, where they never change.

    Raises:
        BackendUnavailable: OpenVINO is not installed.
    """
    core = shared_core()
    model = core.read_model(str(file))
    if shapes is not None:
        model.reshape({name: list(shape) for name, shape in shapes.items()})
    chosen = settings(cores.threads, precision)
    if cores.callers > 1:
        chosen |= {"NUM_STREAMS": cores.callers, "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = core.compile_model(model, DEVICE, chosen)
    return OpenVinoSegment("whole", import_openvino(), compiled, manifest.tensors, ["logits"])
