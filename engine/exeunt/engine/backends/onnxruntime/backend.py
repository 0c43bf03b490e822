"""The ONNX Runtime backend."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from exeunt.engine.backends.base import LoadedSegment, Tensors
from exeunt.engine.backends.onnxruntime.environment import share_environment
from exeunt.engine.backends.onnxruntime.library import import_onnxruntime
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import BundleError, SegmentError

# ONNX Runtime's fused SkipLayerNormalization is slower on a CPU than the two operators it replaces.
DISABLED_OPTIMIZERS = ["SkipLayerNormFusion"]


class _OnnxSegment:
    def __init__(self, name: str, session: Any) -> None:  # noqa: ANN401 (library without types)
        self._name = name
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Tensors) -> Tensors:
        """Run the session; see `LoadedSegment.run`."""
        try:
            outputs = self._session.run(self._outputs, inputs)
        except Exception as error:  # the library raises many types, none of them documented
            raise self._failed(error) from error
        return dict(zip(self._outputs, outputs, strict=True))

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        """Bind the arrays' memory once; see `LoadedSegment.bind`."""
        binding = self._session.io_binding()
        try:
            for bound, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
                for name, array in bound.items():
                    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        except Exception as error:  # as in run
            raise self._failed(error) from error
        run = self._session.run_with_iobinding

        def call(_alive: tuple[Tensors, Tensors] = (dict(inputs), dict(outputs))) -> None:
            try:
                run(binding)
            except Exception as error:  # as in run
                raise self._failed(error) from error

        return call

    def _failed(self, error: Exception) -> SegmentError:
        return SegmentError(f"segment {self._name!r} failed in ONNX Runtime: {error}")


class OnnxRuntimeBackend:
    """Runs each segment as an ONNX Runtime session on the CPU, in float32.

    threads: compute threads of the process-wide pool.
    """

    name = "onnxruntime"
    compiles_shapes = False

    def __init__(self, threads: int) -> None:
        self._library: ModuleType = import_onnxruntime()
        share_environment(self._library, threads)
        options = self._library.SessionOptions()
        options.use_per_session_threads = False
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.log_severity_level = 4  # what fails is raised, and logged once, by us
        self._options = options
        self._segments: dict[str, LoadedSegment] = {}

    def load(self, manifest: Manifest, root: Path, segment: str) -> LoadedSegment:
        """Open a session for the segment; see `Backend.load`."""
        if segment not in self._segments:
            file = root / manifest.segments[segment].file
            try:
                session = self._library.InferenceSession(
                    str(file),
                    self._options,
                    providers=["CPUExecutionProvider"],
                    disabled_optimizers=DISABLED_OPTIMIZERS,
                )
            except Exception as error:  # as above: no documented types
                raise BundleError(
                    f"ONNX Runtime cannot load {file}: {error}; export the bundle again"
                ) from error
            self._segments[segment] = _OnnxSegment(segment, session)
        return self._segments[segment]

    def close(self) -> None:
        """Drop the sessions; the process-wide pool stays."""
        self._segments.clear()
