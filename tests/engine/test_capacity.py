"""Sizes that contradict each other or the machine are refused at start, with what would fit."""

from pathlib import Path

import pytest

from exeunt.engine import Engine, capacity, memory
from exeunt.engine.config import EngineConfig, available_cores
from exeunt.engine.errors import ConfigError
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors

SIZES = {"tokens": (4, 8)}


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"max_queued_rows": 31}, "max_queued_rows is 31.*raise it to 32"),
        ({"max_resident_rows": 8}, "max_resident_rows is 8.*raise it to 32"),
        ({"threads": available_cores() + 1}, f"set threads to {available_cores()}"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Engine.open(fake_bundle(single_stream()), {"backend": "fake", **settings})


def test_a_slab_beyond_the_memory_is_refused_with_the_rows_that_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = single_stream()
    symbols = {d for t in manifest.tensors.values() for d in t.shape if isinstance(d, str)}
    config = {"backend": "fake", "sizes": dict.fromkeys(symbols, (16,)), "max_batch_rows": 4}
    with Engine.open(fake_bundle(manifest), config) as engine:
        slot = engine.slot_bytes
    assert slot > 0
    monkeypatch.setattr(capacity, "available_bytes", lambda: 10 * slot + 1)
    with pytest.raises(ConfigError, match=r"32 rows under way.*lower max_resident_rows to 10"):
        Engine.open(fake_bundle(manifest), config)
    with Engine.open(fake_bundle(manifest), {**config, "max_resident_rows": 10}) as engine:
        assert len(engine.run(random_tensors(manifest, 30))) == 30


def test_the_rows_under_way_are_bounded_by_the_queue() -> None:
    assert EngineConfig(max_batch_rows=8).resident_rows == 64
    assert EngineConfig(max_batch_rows=8, max_queued_rows=20).resident_rows == 20
    assert EngineConfig(max_batch_rows=8, max_resident_rows=9).resident_rows == 9


def test_the_free_memory_is_what_the_machine_and_the_container_leave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "CGROUP", cgroup)
    assert memory.available_bytes() is None
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    7 kB\n")
    assert memory.available_bytes() == 7 * 1024
    cgroup.mkdir()
    (cgroup / "memory.max").write_text("5000\n")
    (cgroup / "memory.current").write_text("1000\n")
    assert memory.available_bytes() == 4000
    (cgroup / "memory.max").write_text("max\n")
    assert memory.available_bytes() == 7 * 1024
