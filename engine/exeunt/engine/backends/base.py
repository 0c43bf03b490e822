"""What every backend provides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import Manifest

Array = NDArray[Any]
Tensors = Mapping[str, Array]


class LoadedSegment(Protocol):
    """A segment that is ready to run."""

    def run(self, inputs: Tensors) -> Tensors:
        """Run the graph on a batch.

        Args:
            inputs: by the graph's input names, C-contiguous, the batch axis first.

        Returns:
            The graph's outputs by name, the batch axis first, in memory that the caller may keep.

        Raises:
            SegmentError: the graph failed; the message names the segment.
        """
        ...


class Backend(Protocol):
    """Loads segments. Opened once for an engine, closed with it."""

    @property
    def name(self) -> str:
        """The backend's name in the configuration."""
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
