"""What `/predict` answers for tasks that generate text, and what may be asked of them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from exeunt.engine.admission import Ticket
from exeunt.server.answers import AnswerBody
from tests.server.asgi import RawRequest, until
from tests.server.generating import LABELS, generating
from tests.server.serving import Served, png, serving
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

COLD = {"warm_up": False}  # nothing here depends on what stages cost
TEXT = "what is in the image"
FIELDS = [
    "task",
    "text",
    "tokens",
    "token_exit_layers",
    "text_score",
    "exit_layer",
    "depth",
    "criterion",
    "reason",
    "score",
    "threshold",
    "lanes",
    "timings_ms",
    "policy_version",
]


@pytest.fixture(params=["ofa", "oscar"])
async def generates(request: Any, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, bundle=partial(generating, request.param), engine=COLD) as served:
        yield served


@pytest.fixture
async def ofa(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, bundle=partial(generating, "ofa"), engine=COLD) as served:
        yield served


def sample(shade: int = 0, **more: Any) -> dict[str, Any]:
    image = base64.b64encode(png(shade)).decode()
    return {"image": image, "text": TEXT, "task": "tell", **more}


async def ask(served: Served, shade: int = 0, **more: Any) -> Any:
    response = await served.client.post("/predict", json=sample(shade, **more))
    assert response.status_code == 200, response.text
    return response.json()


def expected(served: Served, shade: int = 0, **more: Any) -> Any:
    return served.engine.predict({"image": png(shade), "text": TEXT, "task": "tell", **more})


async def test_a_text_with_its_tokens_exits(generates: Served) -> None:
    answer = expected(generates, 3)
    body = await ask(generates, 3)
    assert list(body) == FIELDS
    assert body["text"] == answer.text
    assert len(body["text"].split()) > 1
    assert body["tokens"] == list(answer.tokens)
    assert body["token_exit_layers"] == list(answer.token_exit_layers)
    assert len(body["tokens"]) == len(body["token_exit_layers"]) > 1
    assert body["text_score"] is None
    assert (body["exit_layer"], body["depth"]) == (max(body["token_exit_layers"]), 3)
    AnswerBody.model_validate(body)


async def test_a_form_asks_for_the_same(generates: Served) -> None:
    options: dict[str, Any] = {
        "beams": 3,
        "max_tokens": 8,
        "min_tokens": 2,
        "no_repeat_ngram": 2,
        "length_penalty": 0.6,
    }
    answer = expected(generates, 5, **options)
    form = {"text": TEXT, "task": "tell", **{name: str(one) for name, one in options.items()}}
    response = await generates.client.post("/predict", files={"image": png(5)}, data=form)
    for body in (await ask(generates, 5, **options), response.json()):
        assert body["tokens"] == list(answer.tokens)
        assert body["text_score"] == pytest.approx(answer.text_score)
        assert "label" not in body
    assert generates.engine.queued_rows == 0
    assert generates.engine.used_slots == 0


async def test_every_option_moves_the_answer(ofa: Served) -> None:
    plain = await ask(ofa, 9)
    assert len((await ask(ofa, 9, max_tokens=3))["tokens"]) == 3
    assert len((await ask(ofa, 9, min_tokens=12))["tokens"]) == 13
    shades = range(0, 240, 20)
    wide = range(0, 240, 4)
    others = [(await ask(ofa, n, beams=4), await ask(ofa, n)) for n in wide]
    assert any(beams["tokens"] != greedy["tokens"] for beams, greedy in others)
    repeated = [await ask(ofa, n, no_repeat_ngram=1) for n in shades]
    assert all(len(set(body["tokens"])) == len(body["tokens"]) for body in repeated)
    assert (await ask(ofa, 9, beams=1))["tokens"] == plain["tokens"]


async def test_allowed_answers_are_labels(generates: Served) -> None:
    allowed = ["a cat", "a dog", "yes"]
    answer = expected(generates, 7, allowed=allowed)
    form = await generates.client.post(
        "/predict", files={"image": png(7)}, data={"text": TEXT, "task": "tell", "allowed": allowed}
    )
    for body in (await ask(generates, 7, allowed=allowed), form.json()):
        assert body["label"] == answer.label == allowed[body["index"]]
        assert list(body["probabilities"]) == allowed
        assert sum(body["probabilities"].values()) == pytest.approx(1.0)
        assert body["text"] == body["label"]
        assert body["text_score"] == pytest.approx(answer.text_score)


async def test_a_task_with_answers_of_its_own(generates: Served) -> None:
    body = await ask(generates, task="judge")
    assert body["label"] in LABELS
    assert list(body["probabilities"]) == list(LABELS)
    assert body["tokens"]


async def test_a_prompt_takes_the_text_in_or_asks_itself(ofa: Served) -> None:
    image = {"image": base64.b64encode(png(3)).decode()}
    response = await ofa.client.post("/predict", json={**image, "task": "caption"})
    assert response.json()["text"] == ofa.engine.predict({"image": png(3), "task": "caption"}).text
    refused = await ofa.client.post("/predict", json={**image, "task": "caption", "text": TEXT})
    assert (refused.status_code, refused.json()["error_type"]) == (422, "input")
    assert "leave `text` out" in refused.json()["error"]
    missing = await ofa.client.post("/predict", json={**image, "task": "tell"})
    assert (missing.status_code, missing.json()["error_type"]) == (422, "input")


async def test_a_lane_that_was_known_says_so(ofa: Served) -> None:
    first = await ask(ofa, 3)
    again = await ask(ofa, 3, text="a cat")
    assert set(first["lanes"]["image"]) == {"exit_layer", "depth"}
    assert again["lanes"]["image"] == {**first["lanes"]["image"], "cached": True}
    assert "cached" not in again["lanes"]["text"]


async def test_a_list_answers_each_as_if_alone(generates: Served) -> None:
    asked = [
        sample(1),
        sample(2, beams=3),
        sample(3, allowed=["yes", "dog"]),
        sample(4, task="judge"),
    ]
    alone = [(await generates.client.post("/predict", json=one)).json() for one in asked]
    together = (await generates.client.post("/predict", json=asked)).json()
    for one, other in zip(together, alone, strict=True):
        assert one["tokens"] == other["tokens"]
        assert one["token_exit_layers"] == other["token_exit_layers"]
    assert generates.engine.queued_rows == 0


async def test_hypotheses_take_places_of_the_queue(tmp_path: Path) -> None:
    limits = {"max_queued_rows": 6, "max_batch_rows": 6}
    async with serving(tmp_path, bundle=partial(generating, "ofa"), engine=limits) as served:
        served.backend.delay_s = 0.02
        first = asyncio.create_task(ask(served, 1, beams=4))
        await until(lambda: served.engine.queued_rows == 4)
        full = await served.client.post("/predict", json=sample(2, beams=3))
        assert (full.status_code, full.json()["error_type"]) == (429, "queue_full")
        listed = await served.client.post("/predict", json=[sample(2), sample(3, beams=2)])
        assert (listed.status_code, listed.json()["error_type"]) == (429, "queue_full")
        assert served.engine.queued_rows == 4
        await first
        served.backend.delay_s = 0.0
        # What could never fit is not to be tried again.
        never = await served.client.post("/predict", json=[sample(2, beams=4), sample(3, beams=3)])
        assert (never.status_code, never.json()["error_type"]) == (422, "invalid_request")
        assert "need 7 places, and there are 6" in never.json()["error"]
        fits = await served.client.post("/predict", json=[sample(2, beams=4), sample(3, beams=2)])
        assert fits.status_code == 200, fits.text
        assert served.engine.queued_rows == 0
        assert served.engine.used_slots == 0


async def test_a_client_that_leaves_while_places_are_taken_frees_them_all(
    ofa: Served, monkeypatch: Any
) -> None:
    growing, grown = Event(), Event()
    grow = Ticket.grow

    def late(ticket: Ticket, rows: int) -> None:
        growing.set()
        eventually(lambda: ofa.engine.queued_rows == 0)  # the event loop has given its place back
        grow(ticket, rows)
        grown.set()

    monkeypatch.setattr(Ticket, "grow", late)
    request = RawRequest(ofa, "application/json")
    request.start()
    request.body(json.dumps(sample(beams=3)).encode())
    await until(growing.is_set)
    request.leave()
    assert await request.end() == 499
    await until(grown.is_set)
    await until(lambda: ofa.engine.queued_rows == 0)
    await asyncio.sleep(0.05)
    assert ofa.engine.queued_rows == 0
    assert ofa.engine.used_slots == 0


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no beams", {"beams": 0}, "invalid_request"),
    ("1000 beams", {"beams": 1000}, "invalid_request"),
    ("beams a word", {"beams": "4"}, "invalid_request"),
    ("beams true", {"beams": True}, "invalid_request"),
    ("beams a fraction", {"beams": 2.5}, "invalid_request"),
    ("no tokens", {"max_tokens": 0}, "invalid_request"),
    ("tokens over the caches", {"max_tokens": 14}, "input"),
    ("huge", {"max_tokens": 10**30}, "input"),
    ("min over max", {"max_tokens": 4, "min_tokens": 4}, "input"),
    ("min negative", {"min_tokens": -1}, "invalid_request"),
    ("ngram", {"no_repeat_ngram": 17}, "invalid_request"),
    ("penalty negative", {"length_penalty": -0.5}, "invalid_request"),
    ("penalty a list", {"length_penalty": [1]}, "invalid_request"),
    ("allowed empty", {"allowed": []}, "input"),
    ("allowed a text", {"allowed": "yes"}, "invalid_request"),
    ("allowed of numbers", {"allowed": [1, 2]}, "invalid_request"),
    ("allowed of tokens", {"allowed": [[1], [2]]}, "invalid_request"),
    ("allowed too many", {"allowed": ["a"] * 5000}, "invalid_request"),
    ("allowed blank", {"allowed": ["yes", " "]}, "input"),
    ("allowed twice", {"allowed": ["yes", "yes"]}, "input"),
    ("allowed too long", {"allowed": ["a " * 13]}, "input"),
    ("allowed with beams", {"allowed": ["yes", "no"], "beams": 2}, "input"),
    ("half a pair", {"allowed": ["\ud800"]}, "input"),
    ("stream a word", {"stream": "true"}, "invalid_request"),
    ("stream a number", {"stream": 1}, "invalid_request"),
    ("unknown", {"temperature": 1.0}, "invalid_request"),
    ("beams of a judgement", {"task": "judge", "beams": 2}, "input"),
]


async def _check(served: Served, response: httpx.Response, kind: str) -> None:
    assert (response.status_code, response.json()["error_type"]) == (422, kind), response.text
    assert len(response.json()["error"]) > 20
    assert served.engine.queued_rows == 0
    assert (await ask(served))["tokens"]


@pytest.mark.parametrize(("options", "kind"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
async def test_a_wrong_option(options: dict[str, Any], kind: str, ofa: Served) -> None:
    content = json.dumps(sample() | options)  # in ASCII: httpx would refuse half a pair itself
    headers = {"content-type": "application/json"}
    await _check(ofa, await ofa.client.post("/predict", content=content, headers=headers), kind)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"beams": "many"}, "invalid_request"),
        ({"beams": "2.0"}, "invalid_request"),
        ({"beams": "٣"}, "invalid_request"),
        ({"max_tokens": "1" * 5000}, "invalid_request"),
        ({"length_penalty": "nan"}, "invalid_request"),
        ({"length_penalty": "much"}, "invalid_request"),
        ({"stream": "yes"}, "invalid_request"),
        ({"stream": ""}, "invalid_request"),
        ({"text": ["a", "b"], "task": ["tell"] * 2, "allowed": ["a"]}, "invalid_request"),
    ],
)
async def test_a_wrong_form_field(fields: dict[str, Any], kind: str, ofa: Served) -> None:
    data = {"text": TEXT, "task": "tell", **fields}
    count = len(data["text"]) if isinstance(data["text"], list) else 1
    files = [("image", ("a.png", png()))] * count
    await _check(ofa, await ofa.client.post("/predict", files=files, data=data), kind)


async def test_tasks_that_classify_take_no_options(served: Served) -> None:
    image = base64.b64encode(png()).decode()
    for more in ({"beams": 2}, {"allowed": ["yes"]}, {"max_tokens": 3}):
        body = {"image": image, "text": TEXT, **more}
        response = await served.client.post("/predict", json=body)
        assert (response.status_code, response.json()["error_type"]) == (422, "input")
        assert "generates no text" in response.json()["error"]


async def test_info_tells_what_may_be_asked(ofa: Served, served: Served) -> None:
    tell, caption, judge = (await ofa.client.get("/info")).json()["tasks"]
    assert tell["prompt"] == "the image {text}"
    assert tell["takes"] == ["image", "text"]
    assert tell["generation"] == {
        "max_tokens": 13,
        "min_tokens": 0,
        "beams": 32,
        "no_repeat_ngram": 16,
        "allowed": 4096,
        "streams": True,
    }
    assert caption["takes"] == ["image"]
    assert (judge["generation"]["streams"], judge["generation"]["beams"]) == (False, 1)
    (answer,) = (await served.client.get("/info")).json()["tasks"]
    assert (answer["generation"], answer["prompt"]) == (None, None)


async def test_the_metrics_count_tokens_and_the_state_cache(ofa: Served) -> None:
    before = await ofa.metrics()
    for name in ("hits", "misses", "waited", "evictions"):
        assert before[f"exeunt_state_cache_{name}_total"] == 0
    assert before["exeunt_generated_tokens_total"] == 0
    bodies = [await ask(ofa, shade, text=text) for shade in (1, 2) for text in ("a", "cat", "dog")]
    after = await ofa.metrics()
    assert after["exeunt_generated_tokens_total"] == sum(len(body["tokens"]) for body in bodies)
    assert after["exeunt_state_cache_misses_total"] == 2
    assert after["exeunt_state_cache_hits_total"] == 4
    assert after["exeunt_state_cache_entries"] == 2
    assert after["exeunt_state_cache_bytes"] == ofa.engine.state_cache.bytes > 0


async def test_evictions_and_waiting_are_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, bundle=partial(generating, "ofa")) as served:
        await ask(served, 1)
        each = served.engine.state_cache.bytes
    small = {"state_cache_bytes": each}
    async with serving(tmp_path, bundle=partial(generating, "ofa"), engine=small) as served:
        for shade in (1, 2):
            await ask(served, shade)
        served.backend.delay_s = 0.01
        await asyncio.gather(*(ask(served, 9) for _ in range(5)))
        counted = await served.metrics()
        assert counted["exeunt_state_cache_evictions_total"] == 2
        assert counted["exeunt_state_cache_entries"] == 1
        waited = counted["exeunt_state_cache_waited_total"]
        assert waited > 0
        assert waited + counted["exeunt_state_cache_hits_total"] == 4
