"""The OpenVINO backend."""

from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.backends.openvino.library import (
    DEVICE,
    capabilities,
    import_openvino,
    reason,
    shared_core,
)
from exeunt.engine.backends.openvino.segment import OpenVinoSegment
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.errors import BundleError, ConfigError

HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoBackend:
    """Runs each segment as a compiled OpenVINO model on the CPU.

    threads: compute threads of all streams; all segments of the process take theirs from one pool.
    precision: what matrix products are computed in; tensors between segments are float32 in both.
    streams: callers that run segments at once.
    """

    name = "openvino"
    compiles_shapes = True

    def __init__(
        self, threads: int, precision: Literal["fp32", "bf16"] = "fp32", streams: int = 1
    ) -> None:
        self._library: ModuleType = import_openvino()
        self._core = shared_core()
        if precision == "bf16" and "BF16" not in capabilities():
            raise ConfigError(
                "precision bf16 needs a CPU that computes in bfloat16 (avx512_bf16 or amx_bf16),"
                f" and OpenVINO finds only {', '.join(sorted(capabilities()))} here: set precision"
                " to fp32"
            )
        # Where a stream has one thread its caller's computes: nothing is handed over.
        self._threads = 1 if threads == streams else threads
        self._settings = settings(self._threads, precision, streams)
        self._segments: dict[str, LoadedSegment] = {}

    def load(self, manifest: Manifest, root: Path, segment: str) -> LoadedSegment:
        """Compile the segment's graph; see `Backend.load`.

        Raises:
            ConfigError: OpenVINO would run it on fewer threads than were asked for.
        """
        if segment not in self._segments:
            spec = manifest.segments[segment]
            file = root / spec.file
            try:
                compiled = self._core.compile_model(str(file), DEVICE, self._settings)
                loaded = OpenVinoSegment(
                    segment, self._library, compiled, spec.inputs, spec.outputs
                )
            except Exception as error:  # the library documents no types
                raise BundleError(
                    f"OpenVINO cannot load {file}: {reason(error)}; export the bundle again, or"
                    " choose the backend onnxruntime"
                ) from error
            self._check_threads(compiled)
            self._segments[segment] = loaded
        return self._segments[segment]

    def close(self) -> None:
        """Drop the compiled graphs; the Core stays, with the process's thread pool."""
        self._segments.clear()

    def _check_threads(self, compiled: Any) -> None:  # noqa: ANN401 (library without types)
        if self._threads == 1:
            return
        found = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        if found != self._threads:
            raise ConfigError(
                f"OpenVINO runs {found} threads here, and {self._threads} were asked for: set"
                f" threads to {found}"
            )


def settings(
    threads: int, precision: Literal["fp32", "bf16"], streams: int = 1
) -> dict[str, object]:
    """Return OpenVINO's properties for a segment.

    Every one that could change a result is written down: left alone, OpenVINO picks bfloat16 by
    itself where the CPU has it.
    """
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Without a stream the caller's thread computes. With one stream of one thread OpenVINO
        # 2026.4 loses the errors of a graph, and leaves the output as it was.
        "NUM_STREAMS": 0 if threads == 1 else streams,
        # Pinned, the engines of two processes would sit on the same first cores.
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
    }
