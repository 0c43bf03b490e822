"""A model that fails: errors at once, readiness off, recovery."""

import asyncio
import base64
import gc
from pathlib import Path
from typing import Any

import httpx
import pytest

from exeunt.server.app import create_app
from exeunt.server.service import Service
from tests.server.asgi import until
from tests.server.serving import TEXT, Served, png, serving

pytestmark = pytest.mark.anyio


async def test_a_failing_segment_is_a_500_until_it_passes_again(served: Served) -> None:
    served.backend.failing = {"layer.02"}
    responses = await asyncio.gather(*(served.ask(shade) for shade in (1, 90, 180)))
    assert {response.status_code for response in responses} <= {200, 500}
    failed = [response.json() for response in responses if response.status_code == 500]
    assert failed
    assert all(body["error_type"] == "segment_failed" for body in failed)
    ready = await served.client.get("/readyz")
    assert (ready.status_code, ready.json()["error_type"]) == (503, "unhealthy")
    assert int(ready.headers["retry-after"]) >= 1
    assert (await served.client.get("/healthz")).status_code == 200
    served.backend.failing = set()
    await until(lambda: served.engine.ready)
    assert (await served.client.get("/readyz")).status_code == 200
    assert (await served.ask()).status_code == 200


async def test_a_list_with_several_failures_is_one_error(served: Served, caplog: Any) -> None:
    served.backend.failing = {"layer.01"}
    image = base64.b64encode(png()).decode()
    response = await served.client.post("/predict", json=[{"image": image, "text": TEXT}] * 5)
    assert (response.status_code, response.json()["error_type"]) == (500, "segment_failed")
    assert served.engine.queued_rows == 0
    gc.collect()  # an error that nobody looked at is reported when its future goes
    await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text
    served.backend.failing = set()


async def test_numbers_that_are_not_finite_are_a_500(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.backend.invalid = {f"head.{layer:02}" for layer in range(1, 7)}
        response = await served.ask()
        assert (response.status_code, response.json()["error_type"]) == (
            500,
            "model_output_invalid",
        )
        served.backend.invalid = set()
        assert (await served.ask()).status_code == 200


async def test_a_closed_engine_is_a_503(served: Served) -> None:
    served.engine.close()
    response = await served.ask()
    assert (response.status_code, response.json()["error_type"]) == (503, "engine_stopped")
    assert response.headers["retry-after"]


async def test_a_dead_engine_is_not_live(served: Served, monkeypatch: Any) -> None:
    def die(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(served.engine._worker.scheduler, "next_batch", die)
    response = await served.ask()
    assert (response.status_code, response.json()["error_type"]) == (503, "engine_stopped")
    for path in ("/healthz", "/readyz", "/predict"):
        method = "POST" if path == "/predict" else "GET"
        answer = await served.client.request(method, path, json={"text": "a"})
        assert (answer.status_code, answer.json()["error_type"]) == (503, "engine_stopped")


async def test_loading_and_draining_are_told_apart(served: Served) -> None:
    served.service.draining = True
    ready = await served.client.get("/readyz")
    assert (ready.status_code, ready.json()["error_type"]) == (503, "draining")
    assert ready.headers["connection"] == "close"
    assert (await served.ask()).status_code == 200  # still served until the listener closes
    assert (await served.client.get("/healthz")).status_code == 200


async def test_everything_but_liveness_waits_for_the_engine() -> None:
    transport = httpx.ASGITransport(create_app(Service()))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        assert (await client.get("/healthz")).status_code == 200
        for method, path in (("GET", "/readyz"), ("GET", "/info"), ("POST", "/predict")):
            response = await client.request(method, path)
            assert (response.status_code, response.json()["error_type"]) == (503, "loading")
            assert response.headers["retry-after"]
        assert "exeunt_ready 0.0" in (await client.get("/metrics")).text


async def test_a_defect_is_a_500_without_details(
    served: Served, monkeypatch: Any, capsys: Any
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the request")

    monkeypatch.setattr("exeunt.server.predicting.check_media_type", broken)
    response = await served.ask()
    assert (response.status_code, response.json()["error_type"]) == (500, "internal")
    logged = capsys.readouterr()
    assert "secret" not in response.text + logged.out + logged.err
    assert "RuntimeError" in logged.out + logged.err
    monkeypatch.undo()
    assert (await served.ask()).status_code == 200
