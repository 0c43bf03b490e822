"""One side of the memory bench, in a process of its own: `python -m exeunt.bench.memory.child`.

Prints one JSON object: the bytes that are resident before anything is loaded, and after a batch has
been run twice.
"""

import argparse
import json
from pathlib import Path
from typing import Literal, get_args

from exeunt.bench.peers.collate import Collator
from exeunt.bench.peers.segments import Segments, Walk
from exeunt.bench.workloads import UniterConfig, draw_samples
from exeunt.engine.backends import open_backend
from exeunt.engine.bundle.reader import Bundle

Side = Literal["segments", "whole"]


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM now, as Linux counts it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")


def measure(
    side: Side, root: Path, whole: Path, config: UniterConfig, backend_name: str, rows: int
) -> dict[str, int]:
    """Load one side, run a batch to full depth with every head, and return the bytes resident.

    Args:
        side: `segments` or `whole`.
        root: the bundle.
        whole: the whole model with every head's output, for that side.
        config: of the workload.
        backend_name: what runs it, with one thread.
        rows: of the batch.
    """
    bundle = Bundle.open(root, verify=False)
    backend = open_backend(backend_name, 1)
    samples = draw_samples(config, rows)
    before = resident_bytes()
    if side == "segments":
        segments = Segments(bundle, backend)
        walk = Walk(segments, samples, rows)
        for _ in range(2):
            walk.enter(samples)
            for layer in range(1, segments.lane.depth + 1):
                walk.layer(layer)
                walk.head(layer)
    else:
        from exeunt.bench.workloads.whole import load_whole

        graph = load_whole(backend, bundle, "all", whole)
        batch = Collator(bundle.manifest, samples, rows)(samples)
        for _ in range(2):
            graph.run(batch)
    return {"before": before, "after": resident_bytes()}


def main() -> None:
    """Read the arguments and print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=get_args(Side))
    parser.add_argument("root", type=Path)
    parser.add_argument("whole", type=Path)
    parser.add_argument("config")
    parser.add_argument("backend")
    parser.add_argument("rows", type=int)
    given = parser.parse_args()
    config = UniterConfig.model_validate_json(given.config)
    found = measure(given.side, given.root, given.whole, config, given.backend, given.rows)
    print(json.dumps(found))  # noqa: T201 (a child process answers on its standard output)


if __name__ == "__main__":
    main()
