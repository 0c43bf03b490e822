"""The torch backend."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from exeunt.engine.backends.base import LoadedSegment, Tensors, bind_by_copy
from exeunt.engine.backends.torch.library import require_libraries, share_threads
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import SegmentError

if TYPE_CHECKING:
    from exeunt.engine.backends.torch.graph import Graph


class _TorchSegment:
    def __init__(self, name: str, graph: "Graph") -> None:
        self._name = name
        self._graph = graph

    def run(self, inputs: Tensors) -> Tensors:
        """Run the graph; see `LoadedSegment.run`."""
        try:
            return self._graph.run(inputs)
        except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
            raise SegmentError(f"segment {self._name!r} failed in torch: {error}") from error

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        """Run and copy; see `LoadedSegment.bind`."""
        return bind_by_copy(self, inputs, outputs)


class TorchBackend:
    """Runs each segment's ONNX graph with torch operators on the CPU, in float32.

    threads: compute threads of torch, for the whole process.
    """

    name = "torch"
    compiles_shapes = False

    def __init__(self, threads: int) -> None:
        require_libraries()
        share_threads(threads)
        self._segments: dict[str, LoadedSegment] = {}

    def load(self, manifest: Manifest, root: Path, segment: str) -> LoadedSegment:
        """Read the segment's graph; see `Backend.load`."""
        from exeunt.engine.backends.torch.graph import load_graph

        if segment not in self._segments:
            graph = load_graph(segment, root / manifest.segments[segment].file)
            self._segments[segment] = _TorchSegment(segment, graph)
        return self._segments[segment]

    def close(self) -> None:
        """Drop the graphs; torch's thread pool stays."""
        self._segments.clear()
