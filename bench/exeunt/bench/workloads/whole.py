"""A bundle's segments joined into one graph: what a runtime without exits would be given.

The graph is made of the very segments, weights and operators, so that only the cuts between them
differ. It is loaded through the backend's own interface, like a segment of its own.
"""

import hashlib
from pathlib import Path
from typing import Literal

import onnx

from exeunt.bench.workloads.cache import bench_cache, making
from exeunt.bench.workloads.lane import BATCH, entering, last_head, single_lane
from exeunt.engine.backends import Backend
from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.bundle.manifest import LaneSpec, SegmentSpec
from exeunt.engine.bundle.reader import MANIFEST_FILE, Bundle
from exeunt.engine.errors import ConfigError

Heads = Literal["last", "all"]
ELEMENT_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "int64": onnx.TensorProto.INT64,
    "int32": onnx.TensorProto.INT32,
    "uint8": onnx.TensorProto.UINT8,
    "bool": onnx.TensorProto.BOOL,
}


def whole_graph(bundle: Bundle, heads: Heads = "last", *, cache_dir: Path | None = None) -> Path:
    """Return the file of the whole model as one ONNX graph, which is written at the first call.

    Args:
        bundle: of one lane.
        heads: `last`: full depth, with the output `logits`. `all`: also every exit head, with an
            output `logits.LAYER` each.
        cache_dir: see `bench_cache`; the file lies in `whole` there.

    Raises:
        ConfigError: the bundle is not of one lane, or the cache cannot be written.
    """
    digest = hashlib.sha256((bundle.root / MANIFEST_FILE).read_bytes()).hexdigest()[:12]
    file = bench_cache(cache_dir) / "whole" / f"{bundle.manifest.name}-{digest}-{heads}.onnx"
    with making(file):
        if not file.is_file():
            part = file.with_suffix(".part")
            part.write_bytes(join_segments(bundle, heads).SerializeToString(deterministic=True))
            part.replace(file)
    return file


def load_whole(backend: Backend, bundle: Bundle, heads: Heads, file: Path) -> LoadedSegment:
    """Return a whole graph of the bundle, loaded as the backend loads every segment of it."""
    spec = SegmentSpec(
        kind="head",
        file=file.name,
        sha256="0" * 64,  # nothing checks a file of the cache
        inputs={name: f"input.{name}" for name in bundle.manifest.tensors},
        outputs=dict.fromkeys(_outputs(single_lane(bundle.manifest), heads), "head.logits"),
    )
    name = f"whole.{heads}"
    segments = {**bundle.manifest.segments, name: spec}
    return backend.load(
        bundle.manifest.model_copy(update={"segments": segments}), file.parent, name
    )


def join_segments(bundle: Bundle, heads: Heads) -> onnx.ModelProto:
    """Return the bundle's segments as one graph; see `whole_graph`.

    Raises:
        ConfigError: the bundle is not of one lane, or its segments cannot share a graph.
    """
    lane = single_lane(bundle.manifest)
    joined = _Joined(bundle)
    for name in entering(lane):
        joined.add(name)
    for layer, name in enumerate(lane.layers, 1):
        joined.add(name)
        if heads == "all" and layer in lane.heads:
            joined.answer(lane.heads[layer], f"logits.{layer}")
    joined.answer(last_head(lane), "logits")
    return joined.model([joined.value(output) for output in _outputs(lane, heads)])


def _outputs(lane: LaneSpec, heads: Heads) -> list[str]:
    exits = [f"logits.{layer}" for layer in sorted(lane.heads)] if heads == "all" else []
    return [*exits, "logits"]


class _Joined:
    """A graph that grows segment by segment."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._tensors = bundle.manifest.tensors
        # Where each reference's latest tensor is in the graph.
        self._places = {f"input.{name}": name for name in self._tensors}
        self._model = onnx.ModelProto()
        self._graph = self._model.graph
        self._graph.name = "whole"

    def add(self, segment: str) -> None:
        """Add a segment that writes the lane's state."""
        ports = self._copy(segment)
        for graph, text in self._bundle.manifest.segments[segment].outputs.items():
            self._places[text] = ports[graph]

    def answer(self, segment: str, output: str) -> None:
        """Add a head, whose logits become the graph's tensor `output`."""
        ports = self._copy(segment, prefix=f"{output}/")
        outputs = self._bundle.manifest.segments[segment].outputs
        logits = next(graph for graph, text in outputs.items() if text == "head.logits")
        self._graph.node.append(onnx.helper.make_node("Identity", [ports[logits]], [output]))

    def value(self, output: str) -> onnx.ValueInfoProto:
        """Return the description of an output: logits of all classes."""
        classes = single_lane(self._bundle.manifest).classes
        return onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [BATCH, classes])

    def model(self, outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Return the finished graph with these outputs."""
        self._graph.input.extend(
            onnx.helper.make_tensor_value_info(
                name, ELEMENT_TYPES[spec.dtype], [BATCH, *spec.shape]
            )
            for name, spec in self._tensors.items()
        )
        self._graph.output.extend(outputs)
        return self._model

    def _copy(self, segment: str, prefix: str | None = None) -> dict[str, str]:
        """Copy a segment's nodes and weights; return its tensors' names in the graph."""
        spec = self._bundle.manifest.segments[segment]
        source = onnx.load(self._bundle.path(spec.file))
        self._check(segment, source)
        start = f"{segment}/" if prefix is None else prefix
        ports = {graph: self._places[text] for graph, text in spec.inputs.items()}
        names = _Names(ports, start)
        for initializer in source.graph.initializer:
            initializer.name = names[initializer.name]
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
