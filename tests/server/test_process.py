"""A real server process: starting, refusing to start, and ending."""

import asyncio
import base64
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.serving import encoded, png
from tests.support.process import ServerProcess, free_port

pytestmark = pytest.mark.anyio

TEXT = "what shape is in the image?"
# Much to do, one row at a time.
SLOW = {
    "EXEUNT__ENGINE__MAX_BATCH_ROWS": "1",
    "EXEUNT__ENGINE__MAX_QUEUED_ROWS": "4096",
    "EXEUNT__SERVER__MAX_SAMPLES": "120",
}


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXEUNT__")}
    return {**kept, "EXEUNT__ENGINE__THREADS": "1", **more}


def _serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exeunt.server", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=_environment(**environment),
        check=False,
    )


async def test_what_was_accepted_is_answered_before_the_end() -> None:
    samples = [{"image": base64.b64encode(png(n)).decode(), "text": TEXT} for n in range(120)]
    environment = _environment(**SLOW, EXEUNT__SERVER__SHUTDOWN_GRACE_S="0.3")
    with ServerProcess.start("--exit-policy", "never", env=environment) as server:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
            await client.get("/readyz")
            tasks = [asyncio.create_task(client.post("/predict", json=samples)) for _ in range(16)]
            while await asyncio.to_thread(server.total, "exeunt_exits_total") == 0:
                await asyncio.sleep(0.01)
            assert sum(not task.done() for task in tasks) > 8
            server.process.send_signal(signal.SIGTERM)
            while (ready := await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
            assert ready.json()["error_type"] == "draining"
            assert ready.headers["connection"] == "close"
            responses = await asyncio.gather(*tasks)
        assert [response.status_code for response in responses] == [200] * 16
        assert all(len(response.json()) == 120 for response in responses)
        assert await asyncio.to_thread(server.process.wait, 30) == 0


async def test_what_cannot_be_drained_in_time_ends_in_order(capfd: Any) -> None:
    environment = _environment(
        **SLOW, EXEUNT__SERVER__SHUTDOWN_GRACE_S="0", EXEUNT__SERVER__DRAIN_S="0"
    )
    samples = [{"image": base64.b64encode(png(n)).decode(), "text": TEXT} for n in range(120)]
    with ServerProcess.start("--exit-policy", "never", env=environment) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            tasks = [asyncio.create_task(client.post("/predict", json=samples)) for _ in range(8)]
            while await asyncio.to_thread(server.total, "exeunt_exits_total") == 0:
                await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 10) == 0
            responses = await asyncio.gather(*tasks)
    late = [response for response in responses if response.status_code != 200]
    assert late
    for response in late:
        assert (response.status_code, response.json()["error_type"]) == (503, "draining")
        assert response.headers["retry-after"]
    logged = capfd.readouterr().err
    assert "Traceback" not in logged
    assert "never retrieved" not in logged


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_server_ends_at_once(number: signal.Signals) -> None:
    environment = _environment(EXEUNT__SERVER__SHUTDOWN_GRACE_S="0")
    with ServerProcess.start(env=environment) as server:
        image = encoded_sample()
        response = httpx.post(f"{server.url}/predict", files={"image": image}, data={"text": TEXT})
        assert response.status_code == 200, response.text
        server.process.send_signal(number)
        assert await asyncio.to_thread(server.process.wait, 10) == 0


async def test_a_body_of_50_megabytes_is_refused_over_a_socket() -> None:
    with ServerProcess.start(env=_environment(EXEUNT__SERVER__SHUTDOWN_GRACE_S="0")) as server:

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b" " * 10**6

        headers = {"content-type": "application/json"}
        async with httpx.AsyncClient(base_url=server.url) as client:
            for declared in ({}, {"content-length": str(50 * 10**6)}):
                response = await client.post(
                    "/predict", content=chunks(), headers=headers | declared
                )
                assert response.status_code == 413
                good = await client.post(
                    "/predict", files={"image": encoded_sample()}, data={"text": TEXT}
                )
                assert good.status_code == 200


def test_an_endless_header_ends_its_connection_alone() -> None:
    with ServerProcess.start(env=_environment(EXEUNT__SERVER__SHUTDOWN_GRACE_S="0")) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
            with pytest.raises(ConnectionError):
                connection.sendall(b"a" * 2**26)
        with httpx.Client(base_url=server.url) as client:
            for _ in range(20):  # a connection that is kept may send many heads
                assert client.get("/healthz", headers={"X": "a" * 100_000}).status_code == 200


def encoded_sample() -> tuple[str, bytes]:
    from PIL import Image

    return "a.png", encoded(Image.new("RGB", (64, 64), (200, 30, 30)))


def test_a_bundle_that_cannot_be_opened_ends_the_process(tmp_path: Path) -> None:
    ended = _serve(str(tmp_path), "--port", "0")
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "manifest.json is missing" in errors[0]
    assert "Traceback" not in ended.stderr


def test_a_wrong_setting_ends_the_process_with_2(tmp_path: Path) -> None:
    for ended in (
        _serve("--port", "0", EXEUNT__ENGINE__THRADS="2"),
        _serve("--config", str(tmp_path / "none.yaml")),
        _serve("--prot", "0"),
    ):
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr


def test_a_taken_port_is_one_clear_error() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        ended = _serve("--port", str(port))
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
