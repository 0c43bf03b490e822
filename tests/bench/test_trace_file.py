"""The trace file: valid, complete, and every row can be followed."""

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exeunt.bench.trace import write_trace
from exeunt.engine import Engine
from exeunt.engine.errors import ConfigError
from exeunt.engine.trace import Trace, TracedBatch
from tests.bench.simulated import costs, lane, serve
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors

Event = dict[str, Any]


def written(trace: Trace, directory: Path) -> dict[str, Any]:
    file = directory / "trace.json"
    write_trace(trace, file)
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def of_phase(content: dict[str, Any], phase: str) -> list[Event]:
    return [event for event in content["traceEvents"] if event["ph"] == phase]


def engine_trace() -> tuple[Trace, dict[int, int]]:
    """Return the trace of an engine that served, and the exit layer of each request."""
    manifest = single_stream(layers=4)
    rules = {"joint": {"any": [{"criterion": "patience", "threshold": 1}]}}
    policy = {"version": 1, "tasks": {"default": rules}}
    config = {"backend": "fake", "max_batch_rows": 4, "exit_policy": policy}
    with Engine.open(fake_bundle(manifest), config) as engine:
        trace = engine.start_trace()
        answers = engine.run(random_tensors(manifest, 23))
        engine.stop_trace()
    return trace, {place: answer.exit_layer for place, answer in enumerate(answers, 1)}


def simulated_trace() -> tuple[Trace, dict[int, int]]:
    exits = [1 + place % 6 for place in range(40)]
    times = [place * 0.004 for place in range(40)]
    _, trace = serve(costs(), times, [(layer,) for layer in exits], {"max_batch_rows": 4})
    return trace, dict(enumerate(exits, 1))


@pytest.fixture(params=[engine_trace, simulated_trace], ids=["engine", "simulator"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], dict[int, int]]:
    trace, exits = request.param()
    return written(trace, tmp_path), exits


Told = tuple[dict[str, Any], dict[int, int]]


def test_slices_of_a_track_do_not_overlap_and_start_at_0(told: Told) -> None:
    content, _ = told
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in of_phase(content, "X"):
        tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert min(start for track in tracks.values() for start, _ in track) == 0.0
    for track in tracks.values():
        assert all(end <= start + 1e-6 for (_, end), (start, _) in pairwise(track))


def test_rows_add_up_to_the_layers_run(told: Told) -> None:
    content, exits = told
    slices = of_phase(content, "X")
    for event in slices:
        assert event["args"]["rows"] == len(event["args"]["requests"]) <= 4
        assert event["args"]["reason"] in ("worthwhile", "deepest", "aged", "deadline")
    layers = sum(event["args"]["rows"] for event in slices if event["args"]["layer"])
    assert layers == sum(exits.values())


def test_every_row_can_be_followed_from_its_first_batch_to_its_exit(told: Told) -> None:
    content, exits = told
    begun: dict[int, list[Event]] = defaultdict(list)
    ended: dict[int, Event] = {}
    parts: Counter[int] = Counter()
    for event in of_phase(content, "b") + of_phase(content, "e"):
        assert event["cat"] == "request"
    asynchronous = [event for event in content["traceEvents"] if event["ph"] in "be"]
    for event in asynchronous:  # as a viewer does: a stack for each request
        number = event["id"]
        stack = begun[number]
        if event["ph"] == "b":
            assert not stack or event["ts"] >= stack[-1]["ts"]
            stack.append(event)
            parts[number] += bool(len(stack) > 1 and event["args"]["layer"])
            continue
        begin = stack.pop()
        assert begin["name"] == event["name"]
        assert begin["ts"] <= event["ts"]
        if not stack:
            assert number not in ended
            ended[number] = event
    assert not any(begun.values())
    assert {number: event["args"]["exit_layer"] for number, event in ended.items()} == exits
    assert dict(parts) == exits
    assert all(event["args"]["criterion"] for event in ended.values())


def test_counters_tell_the_rows_of_what_runs(told: Told) -> None:
    content, _ = told
    rows = [event["args"]["rows"] for event in of_phase(content, "C")]
    assert rows[::2] == [event["args"]["rows"] for event in of_phase(content, "X")]
    assert set(rows[1::2]) == {0}


def test_processes_and_lanes_have_names(tmp_path: Path) -> None:
    dual = costs(lane("image", 2), lane("text", 2), lane("fusion", 2, join=("image", "text")))
    _, trace = serve(dual, [0.0, 0.0], [(1, 2, 1), (2, 2, 2)], {"max_batch_rows": 4})
    content = written(trace, tmp_path)
    names = [event["args"]["name"] for event in of_phase(content, "M")]
    assert names == ["engine", "requests", "lane fusion", "lane image", "lane text"]
    ends = [event["args"] for event in of_phase(content, "e") if event["name"] == "request 1"]
    assert [(one["lane"], one["layer"]) for one in ends[0]["exits"]] == [
        ("text", 2),
        ("image", 1),
        ("fusion", 1),
    ]


def test_a_request_that_is_not_through_is_closed_and_says_so(tmp_path: Path) -> None:
    def batch(started_s: float, layer: int, left: tuple[tuple[int, str], ...]) -> TracedBatch:
        return TracedBatch(
            started_s, started_s + 0.5, "joint", f"l{layer}", layer, "deepest", (7, 8), left
        )

    trace = Trace([batch(100.0, 1, ()), batch(101.0, 2, ((7, "entropy"),))], dropped=3)
    content = written(trace, tmp_path)
    assert content["otherData"]["batches_dropped"] == 3
    ends = {e["name"]: e for e in of_phase(content, "e") if e["name"].startswith("request")}
    assert ends["request 7"]["args"]["criterion"] == "entropy"
    assert "under way" in ends["request 8"]["args"]["exit"]
    assert ends["request 8"]["ts"] == 1_500_000.0


def test_neighbouring_batches_stay_apart_when_times_are_rounded(tmp_path: Path) -> None:
    edges = [1e5 + place / 3e6 for place in range(200)]
    batches = [
        TracedBatch(start, end, "joint", "l1", 1, "deepest", (place,), ((place, "depth"),))
        for place, (start, end) in enumerate(pairwise(edges))
    ]
    slices = of_phase(written(Trace(batches), tmp_path), "X")
    nanoseconds = [(round(e["ts"] * 1e3), round(e["dur"] * 1e3)) for e in slices]
    assert all(at + lasts == after for (at, lasts), (after, _) in pairwise(nanoseconds))


def test_an_empty_trace_and_an_unwritable_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no batch ran"):
        write_trace(Trace(), tmp_path / "trace.json")
    trace, _ = simulated_trace()
    with pytest.raises(ConfigError, match="cannot write the trace"):
        write_trace(trace, tmp_path / "nowhere" / "trace.json")
