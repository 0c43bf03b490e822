"""What a model family provides to be exported."""

from pathlib import Path
from typing import Protocol

from exeunt.export.families.options import DEFAULTS, SourceOptions
from exeunt.export.plan import BundlePlan


class Family(Protocol):
    """One architecture: recognises its checkpoints and cuts them into segments."""

    @property
    def name(self) -> str:
        """The family's name, as `--family` and the manifest write it."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that every checkpoint of the family has, with `*` for a part of one.

        They tell which family a checkpoint is of whose config says nothing, or something wrong.
        """
        ...

    def detect(self, source: Path) -> bool:
        """Return whether the directory `source` looks like a checkpoint of this family.

        Reads configuration only, never weights, and never raises on what it finds there.
        """
        ...

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint, in eval mode and without unpickling, and cut it into segments.

        Args:
            source: the checkpoint's directory.
            options: what the user says beside it; those that the family has no use for are refused.

        Raises:
            ExportError: the checkpoint is incomplete, damaged or contradicts itself; the message
                names the file. `MisfitError` where its tensors are not the family's.
        """
        ...
