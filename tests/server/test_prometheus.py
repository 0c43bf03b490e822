"""A real Prometheus scrapes a real server and answers every panel of the dashboard."""

import json
import math
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.server.test_process import TEXT, encoded_sample
from tests.support.process import ServerProcess, free_port

DOCKER = Path(__file__).parents[2] / "docker"
WINDOW = "5s"
VARIABLES = {"$__rate_interval": WINDOW, "$__range": WINDOW, "$model": ".*", "$lane": ".*"}
LIMIT_S = 30.0


def _tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt-get install prometheus"
    return found


def _promtool(*arguments: str, given: str | None = None) -> None:
    ended = subprocess.run(
        [_tool("promtool"), *arguments], input=given, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not given or not ended.stderr, ended.stderr


def _queries() -> list[tuple[str, str]]:
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "exeunt.json").read_text())
    queries = []
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            assert "$" not in query
            queries.append((f"{panel['title']} {target['refId']}", query))
    assert len(queries) > 12
    return queries


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess.start() as started:
        ending = threading.Event()

        def traffic() -> None:
            image = encoded_sample()
            while not ending.wait(0.02):
                for text in (TEXT, ""):  # an answer and an error
                    httpx.post(
                        f"{started.url}/predict", files={"image": image}, data={"text": text}
                    )

        thread = threading.Thread(target=traffic)
        thread.start()
        yield started
        ending.set()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(server: ServerProcess, tmp_path_factory: Any) -> Iterator[str]:
    """Run Prometheus under the checked-in configuration, with our target and a shorter pace."""
    root = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "500ms"
    config["global"]["evaluation_interval"] = "500ms"
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [server.url.split("//")[1]]
    (root / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DOCKER / "prometheus" / "alerts.yml", root)
    port = free_port()
    process = subprocess.Popen(
        [
            _tool("prometheus"),
            f"--config.file={root / 'prometheus.yml'}",
            f"--storage.tsdb.path={root / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


def _has_data(answer: Any) -> bool:
    values = [float(series["value"][1]) for series in answer["data"]["result"]]
    return any(math.isfinite(value) for value in values)


def test_promtool_accepts_the_configuration() -> None:
    _promtool("check", "config", str(DOCKER / "prometheus" / "prometheus.yml"))


def test_promtool_accepts_the_exposition(server: ServerProcess) -> None:
    text = httpx.get(f"{server.url}/metrics").text
    assert "exeunt_exit_layer_bucket" in text
    _promtool("check", "metrics", given=text)


def test_every_panel_is_answered(prometheus: str) -> None:
    missing = dict(_queries())
    deadline_s = time.monotonic() + LIMIT_S
    while missing and time.monotonic() < deadline_s:
        time.sleep(0.5)
        for panel, query in list(missing.items()):
            try:
                reply = httpx.get(f"{prometheus}/api/v1/query", params={"query": query})
            except httpx.TransportError:
                break  # not listening yet
            if reply.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                break  # listening, not ready yet
            answer = reply.json()
            assert answer["status"] == "success", f"{panel}: {answer}"
            if _has_data(answer):
                del missing[panel]
    assert not missing


def test_no_alert_fires_for_a_sound_server(prometheus: str, server: ServerProcess) -> None:
    rules = httpx.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert {rule["name"] for rule in rules} >= {"ExeuntNotReady", "ExeuntServerErrors"}
    assert {rule["state"] for rule in rules} == {"inactive"}
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
