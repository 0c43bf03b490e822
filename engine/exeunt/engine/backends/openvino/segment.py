"""A segment as OpenVINO runs it: zero-copy in and out, an infer request for each binding."""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from exeunt.engine.backends.base import Array, Tensors
from exeunt.engine.backends.openvino.library import reason
from exeunt.engine.errors import SegmentError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Port:
    """One input or output of a graph. blank: its sizes, 0 where they change from call to call."""

    name: str
    place: int
    element_type: Any
    blank: Shape


class OpenVinoSegment:
    """A compiled graph. Safe to run from several threads: they share the graph, not a request.

    An infer request is a few hundred bytes; weights and intermediate memory belong to the graph.
    """

    def __init__(
        self,
        name: str,
        library: ModuleType,
        compiled: Any,  # noqa: ANN401 (library without types)
        inputs: Iterable[str],
        outputs: Iterable[str],
    ) -> None:
        """Find the graph's ports; KeyError where it has none of a name."""
        self._name = name
        self._library = library
        self._compiled = compiled
        self._inputs = _ports(compiled.inputs, inputs)
        self._outputs = _ports(compiled.outputs, outputs)

    def run(self, inputs: Tensors) -> Tensors:
        """Run the graph into memory of the caller's own; see `LoadedSegment.run`."""
        try:
            request = self._request(inputs)
            answers = {}
            for port in self._outputs:
                tensor = self._library.Tensor(port.element_type, self._library.Shape(port.blank))
                request.set_output_tensor(port.place, tensor)
                answers[port.name] = tensor
            request.infer(share_outputs=True)
            return {name: tensor.data for name, tensor in answers.items()}
        except Exception as error:  # the library documents no types
            raise self._failed(error) from error

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        """Give the arrays a request of their own; see `LoadedSegment.bind`."""
        try:
            request = self._request(inputs)
            answers = []
            for port in self._outputs:
                tensor = self._shared(outputs[port.name])
                request.set_output_tensor(port.place, tensor)
                answers.append((tensor, outputs[port.name].size))
        except Exception as error:  # as in run
            raise self._failed(error) from error
        infer = request.infer

        def call(_alive: tuple[Tensors, Tensors] = (dict(inputs), dict(outputs))) -> None:
            try:
                infer(share_outputs=True)
            except Exception as error:  # as in run
                raise self._failed(error) from error
            for tensor, size in answers:
                if tensor.get_size() != size:  # OpenVINO shrinks a tensor that is too large
                    raise SegmentError(
                        f"segment {self._name!r} answered {tuple(tensor.shape)}, which is not the"
                        " shape of the memory bound to it"
                    )

        return call

    def _request(self, inputs: Tensors) -> Any:  # noqa: ANN401 (library without types)
        """Return a new infer request that reads the arrays in place."""
        request = self._compiled.create_infer_request()
        for port in self._inputs:
            if port.name not in inputs:
                raise ValueError(f"the input {port.name!r} is missing")
            request.set_input_tensor(port.place, self._shared(inputs[port.name]))
        return request

    def _shared(self, array: Array) -> Any:  # noqa: ANN401 (library without types)
        return self._library.Tensor(_writeable(array), shared_memory=True)

    def _failed(self, error: Exception) -> SegmentError:
        return SegmentError(f"segment {self._name!r} failed in OpenVINO: {reason(error)}")


def _ports(found: Sequence[Any], names: Iterable[str]) -> tuple[_Port, ...]:
    places = {name: place for place, port in enumerate(found) for name in port.get_names()}
    return tuple(
        _Port(
            name, places[name], found[places[name]].get_element_type(), _blank(found[places[name]])
        )
        for name in names
    )


def _blank(port: Any) -> Shape:  # noqa: ANN401 (library without types)
    sizes = port.get_partial_shape()
    return tuple(0 if size.is_dynamic else size.get_length() for size in sizes)


def _writeable(array: Array) -> Array:
    """Return the array, or a writeable view of its memory: OpenVINO takes nothing else.

    It writes to no input. The memory stays alive with the array, which the caller holds.
    """
    if array.flags.writeable:
        return array
    memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    return np.ndarray(array.shape, array.dtype, buffer=memoryview(memory).cast("B"))
