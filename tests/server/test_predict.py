"""What `/predict` answers: one sample or a list, as JSON or as a form."""

import asyncio
import base64
from pathlib import Path

import pytest

from exeunt.server.answers import AnswerBody
from tests.server.serving import LABELS, TEXT, Served, png, serving

pytestmark = pytest.mark.anyio

FIELDS = [
    "task",
    "label",
    "index",
    "probabilities",
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


def _sample(shade: int, text: str = TEXT) -> dict[str, str]:
    return {"image": base64.b64encode(png(shade)).decode(), "text": text}


async def test_a_form_is_answered_as_the_engine_answers(served: Served) -> None:
    response = await served.ask(3)
    body = response.json()
    expected = served.engine.predict({"image": png(3), "text": TEXT})
    assert response.status_code == 200
    assert list(body) == FIELDS
    assert body["label"] == expected.label
    assert body["label"] in LABELS
    assert body["probabilities"] == pytest.approx(expected.probabilities)
    assert (body["exit_layer"], body["depth"]) == (expected.exit_layer, 6)
    assert (body["criterion"], body["reason"]) == ("entropy", "criterion")
    assert body["score"] < body["threshold"] == 0.5
    assert body["lanes"] == {"joint": {"exit_layer": expected.exit_layer, "depth": 6}}
    assert set(body["timings_ms"]) == {"queue", "compute", "total"}
    assert body["policy_version"] == 7
    AnswerBody.model_validate(body)


async def test_json_base64_and_data_urls_are_the_same_image(served: Served) -> None:
    plain = _sample(9)
    url_safe = plain["image"].replace("+", "-").replace("/", "_")
    wrapped = "\n".join(plain["image"][at : at + 20] for at in range(0, len(plain["image"]), 20))
    answers = []
    for image in (plain["image"], f"data:image/png;base64,{plain['image']}", url_safe, wrapped):
        response = await served.client.post("/predict", json={"image": image, "text": TEXT})
        assert response.status_code == 200, response.text
        answers.append(response.json()["probabilities"])
    assert all(answer == answers[0] for answer in answers)
    assert answers[0] == (await served.ask(9)).json()["probabilities"]


async def test_a_list_answers_a_list_in_order(served: Served) -> None:
    shades = [5, 80, 200, 5]
    samples = [_sample(shade) for shade in shades]
    singles = [(await served.ask(shade)).json()["probabilities"] for shade in shades]
    assert singles[0] != singles[1]
    for body in (samples, {"samples": samples}):
        response = await served.client.post("/predict", json=body)
        assert [answer["probabilities"] for answer in response.json()] == singles
    files = [("image", ("a.png", png(shade))) for shade in shades]
    response = await served.client.post("/predict", files=files, data={"text": [TEXT] * 4})
    assert [answer["probabilities"] for answer in response.json()] == singles


async def test_a_list_of_one_answers_a_list(served: Served) -> None:
    response = await served.client.post("/predict", json=[_sample(1)])
    assert len(response.json()) == 1


async def test_a_text_can_be_a_file(served: Served) -> None:
    files = {"image": ("a.png", png()), "text": ("question.txt", TEXT.encode())}
    assert (await served.client.post("/predict", files=files)).status_code == 200


async def test_a_list_fails_as_a_whole_before_anything_runs(served: Served) -> None:
    before = len(served.backend.calls)
    samples = [_sample(1), _sample(2, text=""), _sample(3)]
    response = await served.client.post("/predict", json=samples)
    assert response.status_code == 422
    assert response.json()["error_type"] == "text"
    assert response.json()["error"].startswith("samples[1]: ")
    assert len(served.backend.calls) == before
    assert served.engine.queued_rows == 0


async def test_the_number_of_samples_is_capped(tmp_path: Path) -> None:
    async with serving(
        tmp_path, server={"max_samples": 8}, engine={"max_queued_rows": 3, "max_batch_rows": 3}
    ) as served:
        response = await served.client.post("/predict", json=[_sample(1)] * 4)
        assert response.status_code == 422  # never 429: retrying could not help
        assert "at most 3" in response.json()["error"]
        assert (await served.client.post("/predict", json=[_sample(1)] * 3)).status_code == 200


async def test_64_at_once_each_get_their_own_answer(served: Served) -> None:
    expected = [served.engine.predict({"image": png(n * 3), "text": TEXT}) for n in range(64)]
    responses = await asyncio.gather(*(served.ask(n * 3) for n in range(64)))
    assert len({answer.probabilities[LABELS[0]] for answer in expected}) > 30
    for response, answer in zip(responses, expected, strict=True):
        assert response.status_code == 200
        assert response.json()["probabilities"] == pytest.approx(answer.probabilities, abs=1e-6)
        assert response.json()["exit_layer"] == answer.exit_layer
    assert max(rows for _, rows in served.backend.calls) > 1


async def test_the_request_id_comes_back(served: Served) -> None:
    given = await served.client.get("/healthz", headers={"X-Request-ID": "abc-123"})
    assert given.headers["x-request-id"] == "abc-123"
    unsound = await served.client.get("/healthz", headers={"X-Request-ID": "a b{};"})
    assert len(unsound.headers["x-request-id"]) == 32


async def test_info_tells_what_the_model_takes(served: Served) -> None:
    info = (await served.client.get("/info")).json()
    assert info["takes"] == ["image", "text"]
    assert info["tasks"][0]["labels"] == list(LABELS)
    assert info["depth"] == {"joint": 6}
    assert info["policy_version"] == 7


async def test_the_document_names_every_model_it_refers_to(served: Served) -> None:
    document = (await served.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    operation = document["paths"]["/predict"]["post"]
    forms = operation["requestBody"]["content"]
    assert set(forms) == {"application/json", "multipart/form-data"}
    assert {"200", "400", "413", "415", "422", "429", "500", "503", "504"} <= set(
        operation["responses"]
    )
    text = (await served.client.get("/openapi.json")).text
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in schemas
    assert (await served.client.get("/docs")).status_code == 200
    assert (await served.client.get("/")).headers["location"] == "/docs"
