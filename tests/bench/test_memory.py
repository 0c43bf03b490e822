"""The memory bench on a tiny model: both sides run, and failures are told."""

from pathlib import Path

import pytest

from exeunt.bench.memory import bench_memory
from exeunt.bench.workloads import uniter_config
from exeunt.engine.errors import SegmentError


def test_both_sides_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    config = uniter_config(hidden=64, layers=2, vocab=5000)
    report = bench_memory(config, rows=2, repeats=1, cache_dir=tmp_path)
    assert all(size > 64 * 5000 * 4 for sizes in report.added_bytes.values() for size in sizes)
    assert report.ratio == report.added_bytes["segments"][0] / report.added_bytes["whole"][0]
    with pytest.raises(SegmentError, match="unknown backend 'jax'"):
        bench_memory(config, backend="jax", rows=2, repeats=1, cache_dir=tmp_path)
