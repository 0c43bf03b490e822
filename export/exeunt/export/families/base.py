"""What a model family provides to be exported."""

from pathlib import Path
from typing import Protocol

from exeunt.export.plan import BundlePlan


class Family(Protocol):
    """One architecture: recognises its checkpoints and cuts them into segments."""

    @property
    def name(self) -> str:
        """The family's name, as `--family` and the manifest write it."""
        ...

    def detect(self, source: Path) -> bool:
        """Return whether the directory `source` looks like a checkpoint of this family.

        Reads configuration only, never weights, and never raises on what it finds there.
        """
        ...

    def describe(self, source: Path) -> BundlePlan:
        """Load the checkpoint, in eval mode and without unpickling, and cut it into segments.

        Raises:
            ExportError: the checkpoint is incomplete, damaged or contradicts itself; the message
                names the file.
        """
        ...
