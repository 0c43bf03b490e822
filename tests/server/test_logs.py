"""The log: one JSON line a request, and never its content."""

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from exeunt.server.logs import configure_logs
from exeunt.server.settings import LogSettings
from tests.server.serving import Served, png

pytestmark = pytest.mark.anyio


@pytest.fixture
def json_log() -> Iterator[None]:
    root = logging.getLogger()
    kept = (root.handlers, root.level)
    yield
    structlog.reset_defaults()
    root.handlers, _ = kept
    root.setLevel(kept[1])


async def test_one_line_a_request(json_log: None, served: Served, capsys: Any) -> None:
    configure_logs(LogSettings(level="info"))
    words = "a very private question"
    image = base64.b64encode(png()).decode()
    headers = {"X-Request-ID": "abc"}
    await served.client.post("/predict", json={"image": image, "text": words}, headers=headers)
    await served.client.post("/predict", json={"image": words, "text": words})
    await served.client.get("/healthz")
    text = capsys.readouterr().err
    assert words not in text
    assert image not in text
    good, bad = (json.loads(line) for line in text.splitlines() if '"request"' in line)
    assert (good["method"], good["path"], good["status"]) == ("POST", "/predict", 200)
    assert (good["request_id"], good["level"]) == ("abc", "info")
    assert 1 <= good["exit_layer"] <= 6
    assert good["ms"] > 0
    assert (bad["status"], bad["error_type"]) == (400, "malformed_body")
