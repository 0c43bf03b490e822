"""Writing one segment as an ONNX graph: the same checkpoint always gives the same bytes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch

from exeunt.export.errors import ExportError
from exeunt.export.plan import Port, SegmentPlan

OPSET = 20


def write_segment(segment: SegmentPlan, file: Path) -> None:
    """Trace the segment's module and write its graph to `file`.

    Raises:
        ExportError: the module cannot be traced, or its graph is not the one planned.
    """
    shapes = tuple(dict.fromkeys(port.dynamic, torch.export.Dim.DYNAMIC) for port in segment.inputs)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                segment.module.eval(),
                segment.examples,
                input_names=[port.name for port in segment.inputs],
                output_names=[port.name for port in segment.outputs],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises types of many libraries
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"segment {segment.name!r} cannot be traced for ONNX: {reason[0]}"
        ) from error
    assert program is not None, "the dynamo exporter returns a program"
    model = normalise(program.model_proto, segment)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.SerializeToString(deterministic=True))


def normalise(model: onnx.ModelProto, segment: SegmentPlan) -> onnx.ModelProto:
    """Name the graph's axes as planned and drop what depends on the machine.

    The exporter writes stack traces, with paths of this machine, into every node.

    Raises:
        ExportError: the graph's inputs or outputs are not those planned.
    """
    graph = model.graph
    graph.name = segment.name
    del graph.value_info[:]
    for place in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        place.doc_string = ""
        del place.metadata_props[:]
    del model.metadata_props[:]
    for found, ports in ((graph.input, segment.inputs), (graph.output, segment.outputs)):
        if [value.name for value in found] != [port.name for port in ports]:
            raise ExportError(
                f"segment {segment.name!r} was planned with {[port.name for port in ports]}, its"
                f" graph has {[value.name for value in found]}: does the module use every input?"
            )
        for value, port in zip(found, ports, strict=True):
            _name_axes(segment, value, port)
    onnx.checker.check_model(model, full_check=True)
    return model


def _name_axes(segment: SegmentPlan, value: onnx.ValueInfoProto, port: Port) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(port.axes):
        raise ExportError(
            f"segment {segment.name!r}: {port.name!r} has {len(dims)} axes, planned {port.axes}"
        )
    for dim, size in zip(dims, port.axes, strict=True):
        fixed = dim.dim_value if dim.HasField("dim_value") else None
        if isinstance(size, str) and fixed is not None:
            raise ExportError(
                f"segment {segment.name!r}: axis {size!r} of {port.name!r} became the constant"
                f" {fixed}: the module must not depend on the size it was traced with"
            )
        if isinstance(size, int) and fixed not in (None, size):
            raise ExportError(
                f"segment {segment.name!r}: {port.name!r} has size {fixed} where {size} was planned"
            )
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of itself: nothing of it is about the model."""
    # It warns on every call that torchvision's operators are not registered; no segment has them.
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch calls its own deprecated tree functions.
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`")
            yield
    finally:
        registry.setLevel(level)
