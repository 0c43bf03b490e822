"""What every backend provides."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import Manifest

Array = NDArray[Any]
Tensors = Mapping[str, Array]


class LoadedSegment(Protocol):
    """A segment that is ready to run."""

    def run(self, inputs: Tensors) -> Tensors:
        """Run the graph on a batch of any size.

        Args:
            inputs: by the graph's input names, C-contiguous, the batch axis first.

        Returns:
            The graph's outputs by name, the batch axis first, in memory that the caller may keep.

        Raises:
            SegmentError: the graph failed; the message names the segment.
        """
        ...

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        """Return a call that runs the graph on these arrays, as often as it is called.

        Args:
            inputs: by the graph's input names, C-contiguous; read anew by every call.
            outputs: by the graph's output names, C-contiguous, of the shapes and dtypes that the
                graph answers such inputs with; written by every call. None overlaps an input.

        Returns:
            The call; it keeps the arrays alive and raises SegmentError like `run`.

        Raises:
            SegmentError: the arrays do not fit the graph.
        """
        ...


def bind_by_copy(segment: LoadedSegment, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
    """Return a bound call for a backend that cannot write into given memory: run, then copy."""

    def call() -> None:
        for name, array in segment.run(inputs).items():
            np.copyto(outputs[name], array, casting="same_kind")

    return call


class Backend(Protocol):
    """Loads segments. Opened once for an engine, closed with it."""

    @property
    def name(self) -> str:
        """The backend's name in the configuration."""
        ...

    @property
    def compiles_shapes(self) -> bool:
        """Whether a batch of a size not met before takes longer, for kernels that it needs."""
        ...

    def load(self, manifest: Manifest, root: Path, segment: str) -> LoadedSegment:
        """Load one segment of the bundle at `root`; a segment that lanes share is loaded once.

        Raises:
            BundleError: the file cannot be loaded.
        """
        ...

    def close(self) -> None:
        """Free what the backend holds; segments loaded by it are not run again."""
        ...
