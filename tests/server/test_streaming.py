"""`stream: true`: tokens as server-sent events, one by one, whatever becomes of the client."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exeunt.server import events
from exeunt.server.answers import AnswerBody
from tests.server.asgi import RawRequest, events_of, until
from tests.server.generating import generating
from tests.server.serving import Served, png, serving
from tests.server.test_generation import COLD, TEXT, ask, sample

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["ofa", "oscar"])
async def generates(request: Any, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, bundle=partial(generating, request.param), engine=COLD) as served:
        yield served


@pytest.fixture
async def ofa(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, bundle=partial(generating, "ofa"), engine=COLD) as served:
        yield served


async def stream(served: Served, shade: int = 0, **more: Any) -> list[tuple[str, Any]]:
    body = sample(shade, stream=True, **more)
    response = await served.client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    return events_of(response.content)


def start(served: Served, shade: int = 0, **more: Any) -> RawRequest:
    request = RawRequest(served, "application/json")
    request.start()
    request.body(json.dumps(sample(shade, stream=True, min_tokens=12, **more)).encode())
    return request


def check(found: list[tuple[str, Any]], answer: Any) -> None:
    """Compare a stream's events with the answer to the same sample without one."""
    *tokens, (last, body) = found
    assert last == "answer"
    for kept in ("text", "tokens", "token_exit_layers", "exit_layer", "task"):
        assert body[kept] == answer[kept]
    assert list(body) == list(answer)
    assert [name for name, _ in tokens] == ["token"] * len(answer["tokens"])
    assert [data["token"] for _, data in tokens] == answer["tokens"]
    assert [data["exit_layer"] for _, data in tokens] == answer["token_exit_layers"]
    assert [data["step"] for _, data in tokens] == list(range(1, len(tokens) + 1))
    assert "".join(data["text"] for _, data in tokens) == answer["text"]


async def test_tokens_then_the_answer(generates: Served) -> None:
    for shade in range(0, 240, 30):
        check(await stream(generates, shade), await ask(generates, shade))
    options = {"max_tokens": 5, "no_repeat_ngram": 1, "beams": 1}
    check(await stream(generates, 3, **options), await ask(generates, 3, **options))
    assert generates.engine.queued_rows == 0
    assert generates.engine.used_slots == 0


async def test_a_form_can_ask_for_a_stream(ofa: Served) -> None:
    data = {"text": TEXT, "task": "tell", "stream": "true"}
    response = await ofa.client.post("/predict", files={"image": png(4)}, data=data)
    check(events_of(response.content), await ask(ofa, 4))
    plain = await ofa.client.post(
        "/predict", files={"image": png(4)}, data={**data, "stream": "false"}
    )
    assert plain.json()["tokens"] == (await ask(ofa, 4))["tokens"]


async def test_characters_are_sent_whole(tmp_path: Path) -> None:
    bundle = partial(generating, "ofa", by_bytes=True)
    async with serving(tmp_path, bundle=bundle) as served:
        held = 0
        for shade in range(30):
            found = await stream(served, shade, min_tokens=12)
            check(found, await ask(served, shade, min_tokens=12))
            held += sum(data["text"] == "" for name, data in found[:-2] if name == "token")
        assert held > 0


async def test_each_token_comes_as_soon_as_it_is_chosen(ofa: Served) -> None:
    ofa.backend.delay_s = 0.01
    request = start(ofa)
    seen: set[int] = set()

    def through() -> bool:
        names = [name for name, _ in request.events()]
        if "answer" not in names and names:
            assert ofa.engine.queued_rows == 1, "the engine still works on it"
            seen.add(len(names))
        return "answer" in names

    await until(through)
    assert await request.end() == 200
    assert len(seen) > 5


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"beams": 2}, "leave `beams` or `stream` out"),
        ({"allowed": ["yes", "no"]}, "chooses among allowed answers"),
        ({"task": "judge"}, "chooses among allowed answers"),
    ],
)
async def test_what_is_certain_only_at_the_end_is_not_streamed(
    more: dict[str, Any], says: str, ofa: Served
) -> None:
    response = await ofa.client.post("/predict", json=sample(stream=True) | more)
    assert (response.status_code, response.json()["error_type"]) == (422, "invalid_request")
    assert says in response.json()["error"]
    assert ofa.engine.queued_rows == 0


async def test_only_one_sample_is_streamed(ofa: Served) -> None:
    one = sample(stream=True)
    for body in ([one], [sample(), one], {"samples": [one]}):
        response = await ofa.client.post("/predict", json=body)
        assert (response.status_code, response.json()["error_type"]) == (422, "invalid_request")
        assert "takes one sample" in response.json()["error"]


async def test_a_task_that_generates_nothing_is_not_streamed(served: Served) -> None:
    body = {"image": sample()["image"], "text": TEXT, "stream": True}
    response = await served.client.post("/predict", json=body)
    assert (response.status_code, response.json()["error_type"]) == (422, "invalid_request")
    assert "generates no text: leave `stream` out" in response.json()["error"]
    assert (await served.client.post("/predict", json=body | {"stream": False})).status_code == 200


async def test_errors_before_the_first_token_keep_their_status(ofa: Served) -> None:
    wrong = await ofa.client.post("/predict", json=sample(stream=True, text="a " * 100))
    assert (wrong.status_code, wrong.json()["error_type"]) == (422, "text")
    ofa.backend.failing = {"dec.01"}
    failed = await ofa.client.post("/predict", json=sample(stream=True))
    assert (failed.status_code, failed.json()["error_type"]) == (500, "segment_failed")
    ofa.backend.failing = set()
    await until(lambda: ofa.engine.ready)
    assert ofa.engine.queued_rows == 0


async def test_errors_after_the_first_token_are_events(ofa: Served) -> None:
    ofa.backend.delay_s = 0.01
    request = start(ofa)
    await until(lambda: len(request.events()) > 1)
    ofa.backend.failing = {"dec.01"}
    assert await request.end() == 200
    name, body = request.events()[-1]
    assert (name, body["error_type"]) == ("error", "segment_failed")
    assert set(body) == {"error", "error_type"}
    assert request.sent[-1].get("more_body", False) is False
    ofa.backend.failing, ofa.backend.delay_s = set(), 0.0
    assert (await ofa.metrics())["exeunt_errors_total"] == 1
    await until(lambda: ofa.engine.ready)
    assert (await ask(ofa))["tokens"]
    assert ofa.engine.used_slots == 0


async def test_a_defect_is_an_event_without_details(
    ofa: Served, monkeypatch: Any, capsys: Any
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the request")

    monkeypatch.setattr(AnswerBody, "of", broken)
    found = await stream(ofa)
    assert found[-1][0] == "error"
    assert found[-1][1]["error_type"] == "internal"
    logged = capsys.readouterr()
    assert "secret" not in str(found) + logged.out + logged.err
    assert "RuntimeError" in logged.out + logged.err


async def test_a_client_that_leaves_frees_its_rows_within_a_step(generates: Served) -> None:
    generates.backend.delay_s = 0.005
    request = start(generates)
    await until(lambda: len(request.events()) > 1)
    generates.backend.delay_s = 0.2
    calls = len(generates.backend.calls)
    request.leave()
    await until(lambda: generates.engine.queued_rows == 0, limit_s=0.15)  # a step takes .2 s
    assert await request.end() == 200
    await until(lambda: generates.engine.used_slots == 0)
    generates.backend.delay_s = 0.0
    await asyncio.sleep(0.1)
    assert len(generates.backend.calls) - calls <= 2  # the step it was in, and its head
    assert generates.engine.resident_requests == 0
    assert "answer" not in dict(request.events())
    assert (await generates.metrics())["exeunt_errors_total"] == 1


async def test_a_client_that_leaves_before_the_first_token(ofa: Served) -> None:
    ofa.backend.delay_s = 0.05
    request = start(ofa)
    await until(lambda: len(ofa.backend.calls) > 0)
    request.leave()
    assert await request.end() == 499
    assert ofa.engine.queued_rows == 0
    await until(lambda: ofa.engine.used_slots == 0)


async def test_a_client_that_leaves_when_the_first_token_comes(ofa: Served) -> None:
    request = start(ofa)
    request.leave()  # read before, with or after the first token
    assert await request.end() in (200, 499)
    assert ofa.engine.queued_rows == 0
    await until(lambda: ofa.engine.used_slots == 0)


async def test_the_deadline(tmp_path: Path) -> None:
    bundle = partial(generating, "ofa")
    async with serving(tmp_path, bundle=bundle, server={"request_timeout_s": 0.5}) as served:
        served.backend.delay_s = 0.005
        request = start(served)
        await until(lambda: len(request.events()) > 0)
        served.backend.delay_s = 0.1
        assert await request.end() == 200
        assert request.events()[0][0] == "token"
        name, body = request.events()[-1]
        assert (name, body["error_type"]) == ("error", "deadline_passed")
        assert served.engine.queued_rows == 0
        served.backend.delay_s = 0.1
        late = await served.client.post("/predict", json=sample(stream=True))
        assert (late.status_code, late.json()["error_type"]) == (504, "deadline_passed")
        served.backend.delay_s = 0.0
        assert served.engine.queued_rows == 0
        await until(lambda: served.engine.used_slots == 0)


async def test_comments_while_nothing_comes(ofa: Served, monkeypatch: Any) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    ofa.backend.delay_s = 0.03
    found = await stream(ofa, max_tokens=3)
    comments = [data for name, data in found if name == ""]
    assert len(comments) > 2
    ofa.backend.delay_s = 0.0
    answer = await ask(ofa, max_tokens=3)
    check([one for one in found if one[0]], answer)


async def test_a_slow_reader_holds_nothing_up(ofa: Served) -> None:
    expected = await ask(ofa, 5, min_tokens=12)
    ofa.backend.delay_s = 0.002
    slow = start(ofa, 5)
    slow.reading.clear()
    await until(lambda: ofa.engine.queued_rows == 1)
    assert (await ask(ofa, 6))["tokens"]
    await until(lambda: ofa.engine.queued_rows == 0)
    await until(lambda: ofa.engine.used_slots == 0)
    assert slow.events() == []
    slow.reading.set()
    assert await slow.end() == 200
    check(slow.events(), expected)


async def test_the_deadline_gives_up_what_nobody_reads(tmp_path: Path) -> None:
    bundle = partial(generating, "ofa")
    async with serving(tmp_path, bundle=bundle, server={"request_timeout_s": 0.3}) as served:
        served.backend.delay_s = 0.01
        slow = start(served)
        slow.reading.clear()
        await until(lambda: served.engine.queued_rows == 1)
        await until(lambda: served.engine.queued_rows == 0)
        await until(lambda: served.engine.used_slots == 0)
        slow.leave()
        assert slow.sent == []
        slow.reading.set()
        await slow.end()


async def test_a_server_that_stops_says_so(ofa: Served) -> None:
    ofa.backend.delay_s = 0.02
    request = start(ofa)
    await until(lambda: len(request.events()) > 1)
    request.cancel()
    assert await request.end() == 200
    name, body = request.events()[-1]
    assert (name, body["error_type"]) == ("error", "draining")
    assert ofa.engine.queued_rows == 0


async def test_the_log_tells_how_a_stream_ended(ofa: Served, capsys: Any) -> None:
    count = len((await ask(ofa))["tokens"])
    capsys.readouterr()
    await stream(ofa)
    assert f"tokens={count}" in capsys.readouterr().out
    ofa.backend.delay_s = 0.01
    request = start(ofa)
    await until(lambda: len(request.events()) > 1)
    request.leave()
    await request.end()
    assert "error_type=cancelled" in capsys.readouterr().out


async def test_64_at_once_are_each_as_if_alone(generates: Served) -> None:
    texts = ("a cat", "a dog is in the image", TEXT, "what shape is in the image a cat a dog")
    asked: list[dict[str, Any]] = []
    for place in range(64):
        own: dict[str, Any] = {"shade": place * 3 % 97, "text": texts[place % 4]}
        kinds: list[dict[str, Any]] = [
            {"stream": True},
            {},
            {"beams": 3},
            {"allowed": ["a cat", "a dog", "yes"]},
        ]
        asked.append(own | kinds[place // 4 % 4])
    alone = []
    for own in asked:
        options = {name: value for name, value in own.items() if name != "stream"}
        alone.append(await ask(generates, **options))
    assert len({tuple(body["tokens"]) for body in alone}) > 20
    assert len({layer for body in alone for layer in body["token_exit_layers"]}) > 1
    together = await asyncio.gather(
        *(
            stream(generates, **_unasked(own)) if "stream" in own else ask(generates, **own)
            for own in asked
        )
    )
    for own, one, other in zip(asked, together, alone, strict=True):
        if "stream" in own:
            check(one, other)
        else:
            for kept in ("text", "tokens", "token_exit_layers", "exit_layer"):
                assert one[kept] == other[kept]
    assert max(rows for _, rows in generates.backend.calls) > 4
    assert generates.engine.queued_rows == 0
    assert generates.engine.used_slots == 0


def _unasked(own: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in own.items() if name != "stream"}
