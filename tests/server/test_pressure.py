"""Load, slow clients and clients that leave."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.server.asgi import RawRequest, form_body, until
from tests.server.serving import Served, serving

pytestmark = pytest.mark.anyio


async def test_a_full_queue_refuses_at_once_and_the_engine_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path, engine={"max_queued_rows": 2, "max_batch_rows": 2}) as served:
        served.backend.delay_s = 0.05
        first = [asyncio.create_task(served.ask(shade)) for shade in (1, 2)]
        await until(lambda: served.engine.queued_rows == 2)
        started_s = time.monotonic()
        refused = await served.ask(3)
        assert time.monotonic() - started_s < 0.3
        assert refused.status_code == 429
        assert refused.json()["error_type"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        assert (await served.client.get("/healthz")).status_code == 200
        assert (await served.client.get("/readyz")).status_code == 200
        assert [(await task).status_code for task in first] == [200, 200]
        assert (await served.ask(3)).status_code == 200


async def test_a_place_is_reserved_before_the_body_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path, engine={"max_queued_rows": 1, "max_batch_rows": 1}) as served:
        slow = RawRequest(served)
        slow.start()
        slow.body(form_body()[:50], more=True)
        await until(lambda: served.engine.queued_rows == 1)
        refused = RawRequest(served)
        refused.start()  # and never sends a body
        assert await refused.end() == 429
        slow.body(form_body()[50:])
        assert await slow.end() == 200


async def test_a_client_that_leaves_is_forgotten_within_a_step(served: Served) -> None:
    served.backend.delay_s = 0.2
    request = RawRequest(served)
    request.start()
    request.body(form_body())
    await until(lambda: len(served.backend.calls) > 0)
    calls = len(served.backend.calls)
    request.leave()
    await until(lambda: served.engine.queued_rows == 0, limit_s=0.15)  # a step takes .2 s
    assert await request.end() == 499
    served.backend.delay_s = 0.0
    await asyncio.sleep(0.3)
    assert len(served.backend.calls) - calls <= 2  # the step it was in, and its head
    assert (await served.metrics()).get("exeunt_exits_total", 0) == 0
    assert (await served.ask()).status_code == 200


async def test_a_client_that_leaves_in_its_body_frees_its_place(served: Served) -> None:
    request = RawRequest(served)
    request.start()
    request.body(form_body()[:50], more=True)
    await until(lambda: served.engine.queued_rows == 1)
    request.leave()
    assert await request.end() == 499
    assert served.engine.queued_rows == 0


async def test_the_deadline_frees_the_place(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"request_timeout_s": 0.2}) as served:
        served.backend.delay_s = 0.1
        response = await served.ask()
        assert response.status_code == 504
        assert response.json()["error_type"] == "deadline_passed"
        await until(lambda: served.engine.queued_rows == 0)
        served.backend.delay_s = 0.0
        assert (await served.ask()).status_code == 200


async def test_a_slow_body_times_out(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"request_timeout_s": 0.1}) as served:
        request = RawRequest(served)
        request.start()
        request.body(form_body()[:50], more=True)
        assert await request.end() == 408
        assert served.engine.queued_rows == 0


async def test_the_bytes_of_all_bodies_are_capped(tmp_path: Path) -> None:
    body = form_body()
    limits = {"max_body_bytes": len(body), "max_buffered_bytes": 2 * len(body) - 2}
    async with serving(tmp_path, server=limits) as served:
        slow = RawRequest(served)
        slow.start()
        slow.body(body[:-1], more=True)
        await until(lambda: served.engine.queued_rows == 1)
        refused = RawRequest(served)
        refused.start()
        refused.body(body)
        assert await refused.end() == 429
        slow.body(body[-1:])
        assert await slow.end() == 200
        assert (await served.ask()).status_code in (200, 413)
