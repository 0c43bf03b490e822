"""Both sides of the memory bench, each in fresh processes."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exeunt.bench.report.machine import command_line, this_machine
from exeunt.bench.workloads import UniterConfig, uniter_base_bundle
from exeunt.engine.backends import open_backend
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.config import available_cores
from exeunt.engine.errors import SegmentError

SIDES = ("segments", "whole")
CHILD_S = 300.0


@dataclass(frozen=True)
class MemoryReport:
    """Bytes that each side adds to its process, by repeat; ratio: of the medians."""

    added_bytes: dict[str, tuple[int, ...]]
    settings: dict[str, str | int]

    @property
    def ratio(self) -> float:
        """The segments' memory over the whole graph's."""
        own, whole = (statistics.median(self.added_bytes[side]) for side in SIDES)
        return own / whole

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return {
            "ratio": self.ratio,
            "added_bytes": {side: list(found) for side, found in self.added_bytes.items()},
            "settings": self.settings,
            "machine": this_machine(1).model_dump(),
            "command": command_line(),
        }


def bench_memory(
    config: UniterConfig,
    *,
    backend: str = "onnxruntime",
    rows: int = 16,
    repeats: int = 3,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> MemoryReport:
    """Measure what one session a segment takes, against one session for the same model and heads.

    Each side runs a batch to full depth with every head, in a fresh process, in turns.

    Args:
        config: of the workload.
        backend: what runs it, with one thread.
        rows: of the batch.
        repeats: processes of each side.
        cache_dir: where the workload is kept; see `bench_cache`.
        progress: called with what comes next.

    Raises:
        SegmentError: a process failed.
    """
    from exeunt.bench.workloads.whole import whole_graph

    tell = progress or _silent
    tell("preparing the bundle")
    writer = open_backend("onnxruntime", available_cores())
    root = uniter_base_bundle(config, cache_dir=cache_dir, backend=writer)
    writer.close()
    whole = whole_graph(Bundle.open(root), "all", cache_dir=cache_dir)
    added: dict[str, list[int]] = {side: [] for side in SIDES}
    for repeat in range(repeats):
        for side in SIDES:
            tell(f"repeat {repeat + 1} of {repeats}: {side}")
            arguments = [side, str(root), str(whole), config.model_dump_json(), backend, str(rows)]
            added[side].append(_added(arguments))
    return MemoryReport(
        {side: tuple(found) for side, found in added.items()},
        {"hidden": config.hidden, "layers": config.layers, "backend": backend, "rows": rows},
    )


def _added(arguments: list[str]) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "exeunt.bench.memory.child", *arguments],
        capture_output=True,
        text=True,
        timeout=CHILD_S,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise SegmentError(f"a process of the memory bench failed: {lines[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return int(found["after"]) - int(found["before"])


def _silent(step: str) -> None:
    """Tell nobody."""
