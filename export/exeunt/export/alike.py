"""Writing the graphs of segments that are alike: traced once, then only the weights change."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn

from exeunt.engine.backends.base import Array
from exeunt.export.onnx_writer import write_segment
from exeunt.export.plan import SegmentPlan

Places = dict[str, tuple[str, bool]]  # initializer -> parameter, and whether it is transposed


class AlikeWriter:
    """Writes each segment as `write_segment` does, to the same bytes, in a fraction of the time.

    The first of the segments with equal modules and ports is traced; the others get its graph with
    their own parameters. The parity that `write_bundle` measures would find a wrong one. A graph
    that does not hold every parameter as it is (the exporter folded some) is no pattern for others.
    """

    def __init__(self) -> None:
        self._traced: dict[str, tuple[onnx.ModelProto, Places]] = {}

    def __call__(self, segment: SegmentPlan, file: Path) -> None:
        """Write the segment's graph to `file`.

        Raises:
            ExportError: the module cannot be traced.
        """
        shapes = [tuple(example.shape) for example in segment.examples]
        key = f"{segment.kind} {_shown(segment.module)} {segment.inputs} {segment.outputs} {shapes}"
        if key not in self._traced:
            write_segment(segment, file)
            graph = onnx.load(file)
            places = _places(segment, graph)
            if sorted(name for name, _ in places.values()) == sorted(_parameters(segment)):
                self._traced[key] = (graph, places)
            return
        graph, places = self._traced[key]
        graph.graph.name = segment.name
        parameters = _parameters(segment)
        for initializer in graph.graph.initializer:
            if initializer.name in places:
                name, transposed = places[initializer.name]
                value = parameters[name].T if transposed else parameters[name]
                initializer.raw_data = numpy_helper.from_array(value).raw_data
        file.write_bytes(graph.SerializeToString(deterministic=True))


def _shown(module: nn.Module) -> str:
    """Return the modules' classes and sizes, with the numbers that their own text leaves out."""
    told = [
        {name: value for name, value in vars(part).items() if isinstance(value, int | float | str)}
        for part in module.modules()
    ]
    return f"{module} {told}"


def _parameters(segment: SegmentPlan) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in segment.module.state_dict().items()}


def _places(segment: SegmentPlan, graph: onnx.ModelProto) -> Places:
    """Return which initializer holds which parameter, found by their numbers."""
    parameters = _parameters(segment)
    places: Places = {}
    for initializer in graph.graph.initializer:
        held = numpy_helper.to_array(initializer)
        for name, value in parameters.items():
            if np.array_equal(held, value):
                places[initializer.name] = (name, False)
            elif value.ndim == 2 and np.array_equal(held, value.T):
                places[initializer.name] = (name, True)
    return places
