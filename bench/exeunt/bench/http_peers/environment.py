"""A virtual environment for each peer's framework, made at its first use.

The frameworks pin versions of each other's dependencies, and of ours. What the model itself runs on
has the versions of this environment, so that nothing but the framework differs.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

from exeunt.bench.workloads.cache import bench_cache, making
from exeunt.engine.errors import ConfigError

Framework = Literal["litserve", "bentoml", "ray"]
SHARED: Final = ("numpy", "onnxruntime", "openvino", "pillow", "tokenizers")
INSTALL_S: Final = 1800.0
_DONE: Final = "installed.txt"


def peer_python(
    framework: Framework,
    *,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Return the interpreter of the framework's environment.

    Args:
        framework: names the file of its requirements.
        cache_dir: see `bench_cache`.
        progress: called with what is being done.

    Raises:
        ConfigError: it cannot be made; the message is the last thing that pip said.
    """
    wanted = requirements(framework)
    digest = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    root = bench_cache(cache_dir) / "peers" / f"{framework}-{digest}"
    python = root / "bin" / "python"
    with making(root):
        if not (root / _DONE).is_file():
            if progress:
                progress(f"installing {wanted[0]} into an environment of its own")
            shutil.rmtree(root, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(root)], framework)
            install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
            _run([*install, *wanted], framework)
            frozen = _run([str(python), "-m", "pip", "freeze"], framework)
            (root / _DONE).write_text(frozen, encoding="utf-8")
    return python


def requirements(framework: Framework) -> list[str]:
    """Return what the framework's environment holds: itself first, then what we share with it."""
    text = files("exeunt.bench.http_peers").joinpath("requirements", f"{framework}.txt")
    own = [line for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [*own, *_shared()]


def framework_version(framework: Framework) -> str:
    """Return the framework's name and version."""
    return requirements(framework)[0]


def _shared() -> list[str]:
    found = []
    for name in SHARED:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue  # OpenVINO is an extra of ours; who asks for it is told so
    return found


def _run(command: list[str], framework: Framework) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"cannot make an environment for {framework}: {error}") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.lower().startswith("error")]
        why = (errors or said or ["it did not say why"])[-1][:300]
        raise ConfigError(f"cannot make an environment for {framework}: {why}")
    return done.stdout
