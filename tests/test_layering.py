"""Imports point one way, and heavy libraries are known to few."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("server", "engine", "kernels", "export", "train", "bench")
SEES: dict[str, set[str]] = {
    "kernels": set(),
    "engine": {"kernels"},
    "server": {"engine", "kernels"},
    "export": {"engine", "kernels"},
    "train": {"export", "engine", "kernels"},
    "bench": {"server", "engine", "kernels", "export", "train"},
}
CLI = "server/exeunt/server/cli"  # may name every part, each loaded with its command only
WEB = {"fastapi", "starlette", "uvicorn"}
DEVICE = {"torch", "onnxruntime", "onnx", "onnxscript", "tensorrt", "triton", "openvino"}
DEVICE_HOMES = (
    "engine/exeunt/engine/backends",
    "kernels",
    "export",
    "train",
    "bench/exeunt/bench/workloads",  # writes the synthetic model and joins its segments
    "bench/exeunt/bench/peers",  # runs the model as others do, under the same libraries
    "bench/exeunt/bench/http_peers/servers",  # the same, in environments of their own
)


def sources() -> list[Path]:
    return sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield each imported module, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(), ids=place)
def test_imports_point_one_way(path: Path) -> None:
    part, where = path.relative_to(ROOT).parts[0], place(path)
    for module in imports(path):
        names = module.split(".")
        if names[0] in WEB:
            assert part == "server", f"{where} imports {module}: only the server knows HTTP"
        if names[0] in DEVICE:
            assert where.startswith(DEVICE_HOMES), f"{where} imports the device library {module}"
        if names[0] != "exeunt" or len(names) < 2 or names[1] == part:
            continue
        if not where.startswith(CLI):
            assert names[1] in SEES[part], f"{where} imports {module}: arrows point one way"


def test_the_namespace_package_has_no_init() -> None:
    """With one, only a single part of `exeunt` could be imported."""
    assert not [part for part in PARTS if (ROOT / part / "exeunt" / "__init__.py").exists()]


HEAVY = sorted({*DEVICE, "exeunt.export", "exeunt.train", "exeunt.bench"})
LOADED = """
import sys
import {module}
print(*sorted(set({heavy}) & set(sys.modules)))
"""


@pytest.mark.parametrize("module", ["exeunt.engine", "exeunt.server.cli", "exeunt.server.cli.app"])
def test_importing_loads_no_device_library_and_no_part_that_a_command_names(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module, heavy=HEAVY)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
