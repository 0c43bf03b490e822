"""Segments joined into one ONNX graph, the very weights and operators, without the cuts."""

import onnx

from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.bundle.tensors import Reference
from exeunt.engine.errors import ConfigError

ELEMENT_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "int64": onnx.TensorProto.INT64,
    "int32": onnx.TensorProto.INT32,
    "uint8": onnx.TensorProto.UINT8,
    "bool": onnx.TensorProto.BOOL,
}


class Joined:
    """A graph that grows segment by segment. A weight that two of them name is there once.

    name: the graph's. places: where each reference's latest tensor is in the graph, a lane's own
    state as `lane.state`.
    """

    def __init__(self, bundle: Bundle, name: str) -> None:
        self._bundle = bundle
        self._weights: set[str] = set()
        self._model = onnx.ModelProto()
        self._graph = self._model.graph
        self._graph.name = name
        self.places: dict[str, str] = {}

    def read(self, reference: str, name: str, dtype: str, shape: list[int | str]) -> None:
        """Let a reference be an input of the graph."""
        self.places[reference] = name
        self._graph.input.append(
            onnx.helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape)
        )

    def add(self, segment: str, lane: str) -> None:
        """Add a segment that writes the states of a lane."""
        ports = self._copy(segment, lane, f"{lane}/{segment}/")
        for graph, text in self._bundle.manifest.segments[segment].outputs.items():
            self.places[_qualified(text, lane)] = ports[graph]

    def answer(self, segment: str, lane: str, output: str) -> None:
        """Add a head of a lane, whose logits become the graph's tensor `output`."""
        ports = self._copy(segment, lane, f"{output}/")
        outputs = self._bundle.manifest.segments[segment].outputs
        logits = next(graph for graph, text in outputs.items() if text == "head.logits")
        self._rename(ports[logits], output)

    def write(self, reference: str, name: str, dtype: str, shape: list[int | str]) -> None:
        """Let a reference's latest tensor be an output of the graph."""
        self._rename(self.places[reference], name)
        self.output(name, dtype, shape)

    def output(self, name: str, dtype: str, shape: list[int | str]) -> None:
        """Let a tensor be an output of the graph."""
        self._graph.output.append(
            onnx.helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape)
        )

    def model(self) -> onnx.ModelProto:
        """Return the finished graph."""
        return self._model

    def _rename(self, tensor: str, name: str) -> None:
        self._graph.node.append(onnx.helper.make_node("Identity", [tensor], [name]))

    def _copy(self, segment: str, lane: str, start: str) -> dict[str, str]:
        """Copy a segment's nodes and weights; return its tensors' names in the graph."""
        spec = self._bundle.manifest.segments[segment]
        source = onnx.load(self._bundle.path(spec.file))
        self._check(segment, source)
        ports = {graph: self.places[_qualified(text, lane)] for graph, text in spec.inputs.items()}
        names = _Names(ports, start)
        for initializer in source.graph.initializer:
            shared = f"{segment}/{initializer.name}"
            names[initializer.name] = shared
            if shared not in self._weights:
                self._weights.add(shared)
                initializer.name = shared
                self._graph.initializer.append(initializer)
        for node in source.graph.node:
            node.name = start + node.name
            node.input[:] = [names[name] for name in node.input]
            node.output[:] = [names[name] for name in node.output]
            self._graph.node.append(node)
        return names

    def _check(self, segment: str, source: onnx.ModelProto) -> None:
        """Take over the operators' versions, which must be those of the segments before."""
        if not self._model.opset_import:
            self._model.ir_version = source.ir_version
            self._model.opset_import.extend(source.opset_import)
        same = list(self._model.opset_import) == list(source.opset_import)
        plain = not source.functions and not any(
            attribute.HasField("g") or attribute.graphs
            for node in source.graph.node
            for attribute in node.attribute
        )
        if not (same and plain):
            raise ConfigError(
                f"segment {segment!r} has other operator versions than the segments before, or"
                " graphs within its graph: it cannot be joined with them; export the bundle again"
            )


class _Names(dict[str, str]):
    """A segment's tensors by their names in the whole graph; an absent input stays absent."""

    def __init__(self, ports: dict[str, str], start: str) -> None:
        super().__init__({"": "", **ports})
        self._start = start

    def __missing__(self, name: str) -> str:
        self[name] = self._start + name
        return self[name]


def _qualified(text: str, lane: str) -> str:
    """Return a reference that says whose state it is."""
    return text if Reference.parse(text).scope else f"{lane}.{text}"
