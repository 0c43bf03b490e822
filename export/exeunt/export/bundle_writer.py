"""Writing a bundle's directory: whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exeunt.engine.bundle.reader import MANIFEST_FILE
from exeunt.export.errors import ExportError


def check_out(source: Path, out: Path, *, overwrite: bool) -> None:
    """Check that a bundle may be written to `out`.

    Raises:
        ExportError: `out` holds something that may not be replaced, or lies in the checkpoint, or
            the checkpoint in it.
    """
    here, there = source.resolve(), out.resolve()
    if there.is_relative_to(here):
        raise ExportError(f"{out} lies in the checkpoint {source}: write the bundle elsewhere")
    if here.is_relative_to(there):
        raise ExportError(f"{out} holds the checkpoint {source}: write the bundle elsewhere")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ExportError(f"{out} is no directory: name another place for the bundle")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise ExportError(f"{out} is not empty: name another directory, or pass --overwrite")
    if not (out / MANIFEST_FILE).is_file():
        raise ExportError(
            f"{out} is not empty and no bundle ({MANIFEST_FILE} is missing), so it is not"
            " overwritten: name another directory"
        )


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield an empty directory beside `out` that takes its place when the block ends well.

    When the block raises, the directory goes and `out` stays as it was.

    Raises:
        ExportError: nothing can be written there.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.export-", dir=out.parent))
    except OSError as error:
        raise ExportError(f"cannot write to {out.parent}: {error.strerror}") from None
    try:
        yield stage
        _publish(stage, out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _publish(stage: Path, out: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    stage.chmod(0o777 & ~umask)  # mkdtemp's own mode is for secrets
    if not out.exists():
        stage.rename(out)
        return
    old = stage.with_name(f"{stage.name}.old")
    out.rename(old)
    try:
        stage.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)
