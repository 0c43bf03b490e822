"""Load over HTTP: a real server process once, and what a broken one is counted as."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from threading import Event, Thread
from typing import Any

import pytest
from PIL import Image

from exeunt.bench.load import closed_loop, constant, measure, open_loop
from exeunt.bench.load import http as http_module
from exeunt.bench.load.bench import bench_load
from exeunt.bench.load.bodies import Body, form_body
from exeunt.bench.load.http import HttpClient, HttpTarget
from exeunt.bench.load.opening import open_targets
from exeunt.bench.load.server_process import ServerProcess
from exeunt.bench.load.settings import load_settings
from exeunt.engine.errors import ConfigError
from exeunt.server.multipart import parse_multipart
from tests.support.process import free_port

ANSWER = {
    "label": "cat",
    "index": 0,
    "exit_layer": 1,
    "depth": 2,
    "lanes": {"image": {"exit_layer": 1, "depth": 2}, "text": {"exit_layer": 3, "depth": 4}},
}
Respond = Callable[[int], bytes | None]


def _response(status: int, content: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@contextmanager
def _server(respond: Respond, connections: list[object] | None = None) -> Iterator[str]:
    """Serve what `respond` returns to the n-th request; None closes the connection."""
    ready, stop = Event(), Event()
    place: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connections is not None:
            connections.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                for line in head.decode().split("\r\n"):
                    if line.lower().startswith("content-length:"):
                        await reader.readexactly(int(line.split(":")[1]))
                place.append(len(place))
                answer = respond(place[-1])
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", port)
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.01)
        server.close()

    port = free_port()
    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join(10)


def _answers(respond: Respond, requests: int) -> dict[str, int]:
    with _server(respond) as url, HttpClient(url) as client:
        target = HttpTarget(client, [Body(b"{}", "application/json")])
        schedule = constant(200.0, requests / 200)
        run = open_loop(target, schedule, cycle([0]), warm_up_s=0.0, seconds=10.0)
    return measure(run, ["cat"]).errors


def test_errors_are_counted_by_type() -> None:
    full = json.dumps({"error": "come back", "error_type": "queue_full"}).encode()
    responses = [
        _response(200, json.dumps(ANSWER).encode()),
        _response(429, full),
        _response(502, b"<html>bad gateway</html>"),
        _response(200, b"no JSON"),
        _response(200, b'{"label": "cat"}'),
        None,
        _response(500, b'{"error_type": 7}'),
        _response(429, full),
    ]
    assert _answers(lambda place: responses[place], 8) == {
        "connection": 1,
        "http_500": 1,
        "http_502": 1,
        "queue_full": 2,
        "unreadable_answer": 2,
    }


def test_an_answer_is_read() -> None:
    reading = HttpTarget.__new__(HttpTarget).read(json.dumps(ANSWER).encode())
    assert (reading.label, reading.index, reading.exit_layer, reading.depth) == ("cat", 0, 1, 2)
    assert (reading.layers_run, reading.layers_possible) == (4, 6)


def test_no_answer_in_time_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "REQUEST_TIMEOUT_S", 0.1)
    assert _answers(lambda _: b"", 2) == {"timeout": 2}


def test_connections_are_kept() -> None:
    answer = _response(200, json.dumps(ANSWER).encode())
    connections: list[object] = []
    with _server(lambda _: answer, connections) as url, HttpClient(url) as client:
        target = HttpTarget(client, [Body(b"{}", "application/json")])
        run = closed_loop(target, cycle([0]), in_flight=2, warm_up_s=0.0, seconds=0.2)
    assert measure(run, ["cat"]).errors == {}
    assert len(run.outcomes) > 10
    assert len(connections) == 2


def test_a_form_is_what_the_server_reads() -> None:
    image = Image.new("RGB", (2, 2), (1, 2, 3))
    body = form_body({"image": image, "text": "is there ü?"}, {"criterion": "never"})
    parts = {part.name: part for part in parse_multipart(body.content, body.content_type)}
    assert parts.keys() == {"image", "text", "criterion"}
    assert parts["image"].is_file
    assert not parts["text"].is_file
    assert parts["text"].text() == "is there ü?"
    assert bytes(parts["image"].content).startswith(b"\x89PNG")
    many = form_body({"images": [b"one", b"two"], "text": "a"})
    found = list(parse_multipart(many.content, many.content_type))
    assert [(part.name, bytes(part.content)) for part in found[:2]] == [
        ("images", b"one"),
        ("images", b"two"),
    ]
    with pytest.raises(ConfigError, match="--over engine"):
        form_body({"regions": {"boxes": 1}})


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return {"over": "http", "samples": 8, "seconds": 1.0, "warm_up": 0.1, "repeats": 1}


def test_a_server_of_its_own_is_measured(small: dict[str, Any]) -> None:
    settings = load_settings(**small, threads=1, in_flight=4, slo_ms=1000.0)
    with open_targets(settings) as opened:
        report = bench_load(settings, opened)
        memory_bytes = opened.memory_bytes()
    assert memory_bytes is not None
    assert memory_bytes > 2**26
    assert report.machine.threads == 1
    assert report.workload["model"] == "demo"
    medians = {name: figure.median for name, figure in report.figures.items()}
    assert medians["default.requests_per_second"] > 0
    assert medians["default.errors"] == medians["never.errors"] == 0.0
    assert medians["never.rho"] == 1.0
    assert 0 < medians["default.rho"] < 1.0
    assert medians["default.accuracy"] > 0.8
    assert 0 < medians["default.p50_ms"] <= medians["default.p99_ms"] < 1000.0


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ConfigError, match=r"the server did not start: .*nowhere is no directory"):
        ServerProcess(["nowhere"], {})


def test_a_server_that_cannot_be_reached_is_named(small: dict[str, Any]) -> None:
    settings = load_settings(**small, url=f"http://127.0.0.1:{free_port()}")
    with (
        pytest.raises(
            ConfigError, match=r"http://127\.0\.0\.1:\d+ cannot be reached .*check --url"
        ),
        open_targets(settings),
    ):
        pass


@pytest.mark.parametrize(
    ("responses", "policy", "complaint"),
    [
        ([_response(200, b"hello")], "default", "is it `exeunt serve`, and ready"),
        ([_response(404, b'{"name": "a"}')], "default", "with status 404"),
        (
            [_response(200, b'{"name": "a"}'), _response(422, b'{"error_type": "image"}')],
            "default",
            "fails the first request of policy default: image",
        ),
        (
            [
                _response(200, b'{"name": "a"}'),
                _response(403, b'{"error_type": "override_refused"}'),
            ],
            "never",
            "or measure with --policy default",
        ),
        (
            [_response(200, b'{"name": "a"}'), _response(200, b"{}")],
            "default",
            "no answer of /predict",
        ),
    ],
)
def test_a_server_that_is_of_no_use_is_named(
    responses: list[bytes], policy: str, complaint: str, small: dict[str, Any]
) -> None:
    with _server(lambda place: responses[place]) as url:
        settings = load_settings(**small, url=url, policy=policy)
        with pytest.raises(ConfigError, match=complaint), open_targets(settings):
            pass
