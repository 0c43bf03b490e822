"""An ONNX graph as a list of torch calls on numbered slots."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from exeunt.engine.backends.base import Array, Tensors
from exeunt.engine.backends.torch.operators import OPERATORS, Attributes, Call, UnsupportedError
from exeunt.engine.errors import BundleError

OPSETS = range(13, 24)  # before 13 axes were attributes and softmax flattened


@dataclass(frozen=True)
class _Step:
    """One node. inputs: slots, None where an optional input is left out."""

    call: Call
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    where: str


class Graph:
    """A segment's graph: constants are tensors once, nodes are torch calls in order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._constants: list[Tensor | None] = []
        self._slots: dict[str, int] = {}
        for initializer in graph.initializer:
            self._add(initializer.name, to_tensor(initializer))
        constants = set(self._slots)
        self._inputs = [
            (value.name, self._add(value.name, None))
            for value in graph.input
            if value.name not in constants
        ]
        self._steps = [self._step(node) for node in graph.node]
        self._outputs = [(value.name, self._slots[value.name]) for value in graph.output]

    @torch.inference_mode()
    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Return the graph's outputs by name, in memory of their own.

        Raises:
            KeyError: an input is missing.
            RuntimeError: an operator failed; the message names the node.
        """
        values = list(self._constants)
        for name, slot in self._inputs:
            array = inputs[name]
            # torch warns of memory that it might write to, although it never does here.
            values[slot] = torch.from_numpy(array if array.flags.writeable else array.copy())
        for step in self._steps:
            arguments = [None if slot is None else values[slot] for slot in step.inputs]
            try:
                result = step.call(*arguments)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                raise RuntimeError(f"node {step.where}: {error}") from error
            found = result if isinstance(result, tuple) else (result,)
            for slot, tensor in zip(step.outputs, found, strict=False):
                values[slot] = tensor
        return {name: _own(values[slot]) for name, slot in self._outputs}

    def _add(self, name: str, constant: Tensor | None) -> int:
        self._slots[name] = len(self._constants)
        self._constants.append(constant)
        return self._slots[name]

    def _step(self, node: onnx.NodeProto) -> _Step:
        if node.domain or node.op_type not in OPERATORS:
            raise UnsupportedError(f"{node.domain}{'.' if node.domain else ''}{node.op_type}")
        call = OPERATORS[node.op_type](_attributes(node))
        inputs = tuple(self._slots[name] if name else None for name in node.input)
        outputs = tuple(self._add(name, None) for name in node.output)
        return _Step(call, inputs, outputs, f"{node.name or node.output[0]} ({node.op_type})")


def load_graph(segment: str, file: Path) -> Graph:
    """Read a segment's graph.

    Raises:
        BundleError: the file is no ONNX graph, or uses an operator that this backend does not
            have; names it and the segment.
    """
    try:
        model = onnx.load(str(file), load_external_data=False)
        if not model.opset_import:
            raise DecodeError("it is empty")
    except (DecodeError, OSError) as error:
        raise BundleError(f"{file} is no ONNX graph ({error}): export the bundle again") from None
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets.get("", 0) not in OPSETS:
        raise BundleError(
            f"segment {segment!r} has ONNX opset {opsets.get('', 0)}, the torch backend runs"
            f" {OPSETS[0]} to {OPSETS[-1]}: export the bundle again"
        )
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise BundleError(
                f"{file} keeps {tensor.name!r} in another file, which no bundle does: export the"
                " bundle again"
            )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{file} is no valid ONNX graph ({reason}): export it again") from None
    try:
        return Graph(model)
    except UnsupportedError as error:
        raise BundleError(
            f"segment {segment!r} has the operator {error}, which the torch backend does not run:"
            " use the onnxruntime backend"
        ) from None
    except (KeyError, ValueError, TypeError) as error:
        raise BundleError(
            f"segment {segment!r} cannot be read from {file} ({error!r}): export the bundle again"
        ) from None


def to_tensor(proto: onnx.TensorProto) -> Tensor:
    """Return a constant of the graph as a tensor."""
    return torch.from_numpy(np.array(onnx.numpy_helper.to_array(proto)))


def _attributes(node: onnx.NodeProto) -> Attributes:
    values: dict[str, object] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = to_tensor(value)
        values[attribute.name] = value
    return Attributes(node.op_type, values, len(node.output))


def _own(tensor: Tensor | None) -> Array:
    assert tensor is not None, "every output was written by a node, or is an input or a constant"
    array: Array = tensor.clone(memory_format=torch.contiguous_format).numpy()
    return array
