"""A bundle whose answers move with the batch says so in every answer."""

from pathlib import Path

import httpx
import pytest

from exeunt.engine import Engine
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import Manifest, PrecisionSpec
from exeunt.server.app import create_app
from exeunt.server.service import Service
from tests.server.serving import LABELS, TEXT, Served, png
from tests.support.manifests import fake_bundle, single_stream

pytestmark = pytest.mark.anyio

INT8 = PrecisionSpec(layers="int8", batch_invariant=False)
STATIC_INT8 = PrecisionSpec(layers="int8", batch_invariant=True)


async def _answers(manifest: Manifest, root: Path) -> list[dict[str, object]]:
    files = [("image", (f"{shade}.png", png(shade), "image/png")) for shade in (1, 2)]
    with Engine.open(fake_bundle(manifest, root), backend=FakeBackend()) as engine:
        transport = httpx.ASGITransport(create_app(Service(engine)))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            response = await client.post("/predict", files=files, data={"text": [TEXT, TEXT]})
    assert response.status_code == 200, response.text
    answers: list[dict[str, object]] = response.json()
    assert len(answers) == 2
    return answers


async def test_every_answer_of_an_int8_bundle_says_so(tmp_path: Path) -> None:
    manifest = single_stream(2, len(LABELS), labels=LABELS, with_inputs=True)
    int8 = manifest.model_copy(update={"precision": INT8})
    assert [answer["batch_invariant"] for answer in await _answers(int8, tmp_path)] == [False] * 2


async def test_other_bundles_say_nothing(tmp_path: Path) -> None:
    manifest = single_stream(2, len(LABELS), labels=LABELS, with_inputs=True)
    static = manifest.model_copy(update={"precision": STATIC_INT8})
    for one in (manifest, static):
        assert not any("batch_invariant" in answer for answer in await _answers(one, tmp_path))


async def test_openapi_describes_the_field(served: Served) -> None:
    document = (await served.client.get("/openapi.json")).json()
    answer = document["components"]["schemas"]["AnswerBody"]
    assert "int8" in answer["properties"]["batch_invariant"]["description"]
    assert "batch_invariant" not in answer["required"]
