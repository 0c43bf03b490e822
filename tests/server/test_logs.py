"""The log: one JSON line a request, and never its content."""

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from exeunt.server.logs import configure_logs
from exeunt.server.settings import LogSettings
from tests.server.serving import Served, png

pytestmark = pytest.mark.anyio


@pytest.fixture
def json_log() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "exeunt", "uvicorn", "python_multipart")]
    levels = [logger.level for logger in loggers]
    handlers = loggers[0].handlers
    yield
    structlog.reset_defaults()
    loggers[0].handlers = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_one_line_a_request(
    level: Literal["debug", "info"], json_log: None, served: Served, capsys: Any
) -> None:
    configure_logs(LogSettings(level=level, format="json"))
    words = "a very private question"
    image = base64.b64encode(png()).decode()
    headers = {"X-Request-ID": "abc"}
    await served.client.post("/predict", json={"image": image, "text": words}, headers=headers)
    await served.client.post("/predict", json={"image": words, "text": words})
    await served.client.get("/healthz")
    text = capsys.readouterr().err
    assert words not in text
    assert image not in text
    lines = [json.loads(line) for line in text.splitlines() if '"request"' in line]
    good, bad, *probes = lines
    assert len(probes) == (level == "debug")  # probes come every few seconds, for ever
    assert (good["method"], good["path"], good["status"]) == ("POST", "/predict", 200)
    assert (good["request_id"], good["level"]) == ("abc", "info")
    assert 1 <= good["exit_layer"] <= 6
    assert good["ms"] > 0
    assert (bad["status"], bad["error_type"]) == (400, "malformed_body")
