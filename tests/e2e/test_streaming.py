"""A real server process streams tokens over real connections."""

import base64
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.asgi import events_of
from tests.server.generating import generating
from tests.server.serving import png
from tests.support.process import ServerProcess

STEPS = 2000  # more than a client can take in before it leaves


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("bundle")
    _write(root)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXEUNT__")}
    settings = {
        "EXEUNT__ENGINE__BACKEND": "fake",
        "EXEUNT__ENGINE__THREADS": "1",
        "EXEUNT__ENGINE__WARM_UP": "false",
        "EXEUNT__ENGINE__MAX_BATCH_ROWS": "4",
    }
    with ServerProcess.start(str(root), env=kept | settings) as started:
        yield started


def _write(root: Path) -> None:
    """Write a bundle whose segments the fake backend does not read."""
    manifest = generating("ofa", root, max_steps=STEPS).manifest
    record = manifest.model_dump(mode="json")
    (root / "segments").mkdir()
    for segment in record["segments"].values():
        (root / segment["file"]).write_bytes(b"")
        segment["sha256"] = hashlib.sha256(b"").hexdigest()
    tokenizer = (root / "tokenizer.json").read_bytes()
    record["files"] = {"tokenizer.json": hashlib.sha256(tokenizer).hexdigest()}
    checked = type(manifest).model_validate(record)
    (root / "manifest.json").write_text(checked.model_dump_json())


def _body(**more: Any) -> dict[str, Any]:
    image = base64.b64encode(png(3)).decode()
    return {"image": image, "text": "what is in the image", "task": "tell", **more}


def test_events_over_a_connection(server: ServerProcess) -> None:
    body = _body(max_tokens=30, min_tokens=29)
    plain = httpx.post(f"{server.url}/predict", json=body).json()
    response = httpx.post(f"{server.url}/predict", json=body | {"stream": True})
    assert response.headers["transfer-encoding"] == "chunked"
    *tokens, (name, answer) = events_of(response.content)
    assert name == "answer"
    assert answer["tokens"] == plain["tokens"] == [data["token"] for _, data in tokens]
    assert "".join(data["text"] for _, data in tokens) == answer["text"] == plain["text"]
    assert len(answer["tokens"]) == 30


def test_the_first_token_is_there_long_before_the_last_and_leaving_ends_it(
    server: ServerProcess,
) -> None:
    before = server.total("exeunt_generated_tokens_total")
    body = _body(min_tokens=STEPS - 1, stream=True)
    with httpx.stream("POST", f"{server.url}/predict", json=body) as response:
        assert response.status_code == 200
        assert next(response.iter_lines()) == "event: token"
        assert server.total("exeunt_generated_tokens_total") - before < STEPS
    deadline_s = time.monotonic() + 10
    while not _cancelled(server):
        assert time.monotonic() < deadline_s, "the server has not noticed that the client left"
        time.sleep(0.01)
    left = server.total("exeunt_generated_tokens_total")
    assert left - before < STEPS
    time.sleep(0.2)
    assert server.total("exeunt_generated_tokens_total") - left <= 1
    assert httpx.post(f"{server.url}/predict", json=_body(max_tokens=5)).status_code == 200


def _cancelled(server: ServerProcess) -> bool:
    text = httpx.get(f"{server.url}/metrics").text
    return 'exeunt_errors_total{type="cancelled"} 1.0' in text
