"""`make serve` as a stranger runs it: a virtual environment of its own, then an answer."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.process import free_port

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0  # a broken machine's limit; the promise of 90 s is measured, not asserted, here
MAX_INSTALLED_BYTES = 300 * 10**6


def _installed_bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_symlink())


@pytest.mark.timeout(300)
def test_make_serve_installs_little_and_answers(tmp_path: Path) -> None:
    port = free_port()
    venv = tmp_path / "venv"
    started_s = time.monotonic()
    process = subprocess.Popen(
        ["make", "serve", f"VENV={venv}", f"PORT={port}"],
        cwd=ROOT,
        start_new_session=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("EXEUNT__")},
    )
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            assert process.poll() is None, "make serve ended before the server was ready"
            assert time.monotonic() - started_s < LIMIT_S, "not ready in time"
            time.sleep(0.2)
        ready_s = time.monotonic() - started_s
        image = (ROOT / "examples" / "shape.png").read_bytes()
        response = httpx.post(
            f"{url}/predict",
            files={"image": ("shape.png", image, "image/png")},
            data={"text": "what shape is in the image?"},
        )
        assert response.status_code == 200, response.text
        assert response.json()["label"] == "circle"
        assert response.json()["exit_layer"] <= response.json()["depth"]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
    site = next((venv / "lib").glob("python*/site-packages"))
    assert not (site / "torch").exists()
    size = _installed_bytes(venv)
    print(f"ready after {ready_s:.0f} s, {size / 1e6:.0f} MB installed")  # noqa: T201 (the measured promise, shown with -s and on failure)
    assert size < MAX_INSTALLED_BYTES
