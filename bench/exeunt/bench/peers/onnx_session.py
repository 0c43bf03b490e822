"""A graph under ONNX Runtime with a choice of optimisers, otherwise as the engine runs segments."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from exeunt.engine.backends.base import Tensors
from exeunt.engine.backends.onnxruntime.environment import share_environment
from exeunt.engine.backends.onnxruntime.library import import_onnxruntime


class OnnxGraph:
    """One ONNX Runtime session on the process's thread pool and allocator, in float32.

    Args:
        file: the graph.
        threads: of the process-wide pool, the engine's own number.
        disabled_optimizers: those of ONNX Runtime's graph optimisers that are not run.
        sizes: symbolic sizes of the graph that never change, such as {"batch": 16, "S": 28}, for
            the optimisers to rely on.

    Raises:
        ConfigError: the process has a pool of another size.
        BackendUnavailable: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        file: Path,
        threads: int,
        disabled_optimizers: Sequence[str],
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        library = import_onnxruntime()
        share_environment(library, threads)
        options = library.SessionOptions()
        options.use_per_session_threads = False
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.log_severity_level = 4
        for name, size in (sizes or {}).items():
            options.add_free_dimension_override_by_name(name, size)
        self.options: Any = options
        self._session: Any = library.InferenceSession(
            str(file),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(disabled_optimizers),
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Tensors) -> Tensors:
        """Run the graph; see `LoadedSegment.run`."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        """Bind the arrays' memory once; see `LoadedSegment.bind`."""
        binding = self._session.io_binding()
        for arrays, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        def call(_alive: tuple[Tensors, Tensors] = (dict(inputs), dict(outputs))) -> None:
            self._session.run_with_iobinding(binding)

        return call
