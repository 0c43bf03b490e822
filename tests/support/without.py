"""Running code in a Python that lacks some libraries."""

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("server", "engine", "kernels", "export", "train", "bench")


def run_without(libraries: tuple[str, ...], code: str) -> str:
    """Return what `code` wrote to standard error, run where `libraries` are not installed.

    The other installed packages are linked into a directory of their own.
    """
    with tempfile.TemporaryDirectory() as name:
        site = Path(name)
        for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if entry.name not in libraries and entry.suffix != ".pth":
                (site / entry.name).symlink_to(entry)
        paths = [str(ROOT / part) for part in PARTS] + [name]
        start = f"import sys; sys.path[:0] = {paths!r}; "
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", start + code],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    return done.stderr
