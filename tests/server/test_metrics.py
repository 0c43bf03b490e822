"""The metrics: what they count, and that every scrape is sound."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exeunt.server.errors import ERROR_TABLE
from tests.server.serving import Served, png

pytestmark = pytest.mark.anyio


async def _samples(served: Served, name: str) -> dict[tuple[str, ...], float]:
    text = (await served.client.get("/metrics")).text
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def test_exits_are_counted_once_an_answer(served: Served) -> None:
    before = await served.metrics()
    responses = await asyncio.gather(*(served.ask(shade * 4) for shade in range(40)))
    after = await served.metrics()
    bodies = [response.json() for response in responses]
    layers = Counter(body["exit_layer"] for body in bodies)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    assert grown("exeunt_exits_total") == len(bodies)
    assert grown("exeunt_exit_layer_count") == len(bodies)
    assert grown("exeunt_exit_layer_sum") == sum(body["exit_layer"] for body in bodies)
    assert grown("exeunt_layers_run_total") == sum(body["exit_layer"] for body in bodies)
    assert grown("exeunt_layers_possible_total") == 6 * len(bodies)
    assert grown("exeunt_request_seconds_count") == len(bodies)
    assert grown("exeunt_queue_seconds_count") == len(bodies)
    assert grown("exeunt_errors_total") == 0
    exits = await _samples(served, "exeunt_exits_total")
    by_layer: Counter[int] = Counter()
    for (criterion, lane, layer, model), count in exits.items():
        assert (lane, model) == ("joint", "single")
        assert criterion in ("entropy", "depth")
        by_layer[int(layer)] += int(count)
    assert by_layer == layers


async def test_every_exit_is_there_before_the_first_request(served: Served) -> None:
    exits = await _samples(served, "exeunt_exits_total")
    possible = [("entropy", layer) for layer in range(1, 7)] + [("depth", 6)]
    assert exits == {(name, "joint", str(layer), "single"): 0 for name, layer in possible}


async def test_the_exit_histogram_has_an_edge_for_every_layer(served: Served) -> None:
    await served.ask()
    buckets = await _samples(served, "exeunt_exit_layer_bucket")
    edges = sorted(float(edge) for _, edge, _ in buckets)
    assert edges == [*map(float, range(1, 49)), float("inf")]


async def test_times_have_about_35_edges(served: Served) -> None:
    await served.ask()
    for name in ("exeunt_request_seconds", "exeunt_queue_seconds"):
        buckets = await _samples(served, f"{name}_bucket")
        assert len(buckets) == 36
    edges = sorted(float(edge) for edge, _ in buckets)
    assert edges[0] == pytest.approx(15e-6)
    assert edges[-2] > 10.0


async def test_every_error_is_counted_by_its_type(served: Served) -> None:
    fresh = await _samples(served, "exeunt_errors_total")
    assert fresh == {(kind,): 0.0 for kind in ERROR_TABLE}  # there from the start, for rates
    await served.client.get("/nothing")
    await served.client.post("/predict", content=b"{", headers={"content-type": "application/json"})
    await served.client.post("/predict", files={"image": ("a.png", png())}, data={"text": ""})
    counted = await _samples(served, "exeunt_errors_total")
    assert {kind for (kind,), count in counted.items() if count} == {
        "not_found",
        "malformed_body",
        "text",
    }


async def test_scrapes_while_it_serves_are_whole(served: Served) -> None:
    async def scrape() -> None:
        for _ in range(10):
            assert (await served.client.get("/metrics")).status_code == 200

    await asyncio.gather(scrape(), *(served.ask(shade) for shade in range(60)))


async def test_gauges(served: Served) -> None:
    samples = await served.metrics()
    assert samples["exeunt_ready"] == 1
    assert samples["exeunt_build_info"] == 1
    waiting = await _samples(served, "exeunt_lane_waiting_rows")
    assert waiting == {("joint", str(layer), "single"): 0.0 for layer in range(6)}


def test_the_dashboard_begins_with_the_exit_layers() -> None:
    file = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards" / "exeunt.json"
    panels = json.loads(file.read_text())["panels"]
    assert "exeunt_exits_total" in panels[0]["targets"][0]["expr"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["targets"] for panel in panels)
