"""A real server process for tests."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

READY_S = 60.0


@dataclass
class ServerProcess:
    """A server on a free port of the loopback interface, ended with the `with` block."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    def start(cls, *arguments: str, env: Mapping[str, str] | None = None) -> Self:
        """Start `exeunt serve ARGUMENTS` and wait until it is ready."""
        port = free_port()
        command = [sys.executable, "-c", "from exeunt.server.cli.app import main; main()", "serve"]
        process = subprocess.Popen(
            [*command, *arguments, "--port", str(port)], env=None if env is None else dict(env)
        )
        server = cls(process, port)
        try:
            server._wait_until_ready()
        except BaseException:
            process.kill()
            raise
        return server

    def total(self, metric: str) -> float:
        """Return the sum of a metric's samples over all labels, as scraped now."""
        text = httpx.get(f"{self.url}/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric
        )

    def stop(self, timeout_s: float = 30.0) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self.process.returncode}")
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise TimeoutError(f"the server was not ready within {READY_S} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.stop()


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
