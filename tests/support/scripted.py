"""A backend whose segments are functions that a test writes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from exeunt.engine.backends.base import LoadedSegment, Tensors, bind_by_copy
from exeunt.engine.bundle.manifest import Manifest

Array = NDArray[Any]
Script = Callable[[dict[str, Array]], Mapping[str, Array]]


class ScriptedBackend:
    """Runs `scripts` by segment; their inputs and outputs are named by reference."""

    name = "scripted"
    compiles_shapes = False

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts

    def load(self, manifest: Manifest, root: Path, segment: str) -> LoadedSegment:
        """Return the segment's script."""
        return _ScriptedSegment(manifest, segment, self._scripts[segment])

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class _ScriptedSegment:
    def __init__(self, manifest: Manifest, name: str, script: Script) -> None:
        self._spec = manifest.segments[name]
        self._script = script

    def run(self, inputs: Tensors) -> Tensors:
        assert set(inputs) == set(self._spec.inputs)
        for graph, array in inputs.items():
            assert array.flags.c_contiguous, f"{graph} is not contiguous"
        named = {self._spec.inputs[graph]: array for graph, array in inputs.items()}
        outputs = self._script(named)
        return {graph: outputs[text] for graph, text in self._spec.outputs.items()}

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        return bind_by_copy(self, inputs, outputs)
