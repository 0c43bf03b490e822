"""What a bench ran on."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from exeunt.bench.report.figures import Machine

PACKAGES = ("exeunt", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt")


def this_machine(threads: int | None) -> Machine:
    """Return a description of this machine; it names neither host nor user.

    Args:
        threads: of the compute pool that is measured; None when they are not known.
    """
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=_cpu_model(),
        architecture=platform.machine(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        python=platform.python_version(),
        threads=threads,
        versions=_versions(),
    )


def command_line() -> str:
    """Return the command line of this process as it would be typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def now() -> str:
    """Return the date and time in UTC, to the second, in ISO 8601."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _cpu_model() -> str:
    """Return the model's name as Linux knows it; other systems name at least the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
