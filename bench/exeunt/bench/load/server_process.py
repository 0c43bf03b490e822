"""A server of the bench's own: `exeunt serve` in another process, on a free port."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from exeunt.engine.errors import ConfigError

READY_S = 300.0  # a large bundle takes its time to load and warm up
STOP_S = 60.0
_POLL_S = 0.05


class ServerProcess:
    """Runs until the `with` block ends; its port is free when it starts.

    Args:
        arguments: of `exeunt serve`; host and port are added.
        environment: the process's whole environment.

    Raises:
        ConfigError: it ended before it was ready; the message is its own last line.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `stop`)
        command = [sys.executable, "-m", "exeunt.server", *arguments]
        self._process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**environment, "EXEUNT__LOG__FORMAT": "json", "EXEUNT__LOG__LEVEL": "info"},
        )
        try:
            self.url = self._wait_for("listening")["url"]
            self._wait_for("ready")
        except BaseException:
            self.stop()
            raise

    def peak_memory_bytes(self) -> int | None:
        """Return the most memory the process has held; None where the system does not say."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return None
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None

    def stop(self) -> None:
        """End the process, in order if it will; stopping twice is harmless."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_for(self, event: str) -> dict[str, str]:
        """Return the log's record of an event as soon as it is written."""
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s:
            ended = self._process.poll() is not None
            for line in self._lines():
                record = _record(line)
                if record.get("event") == event:
                    return record
            if ended:
                raise ConfigError(f"the server did not start: {self._last_words()}")
            time.sleep(_POLL_S)
        raise ConfigError(f"the server was not {event} within {READY_S:.0f} s")

    def _lines(self) -> list[str]:
        number = self._log.fileno()
        # Not `seek` and `read`: the server writes where the file that it shares with us stands.
        content = os.pread(number, os.fstat(number).st_size, 0)
        return content.decode("utf-8", errors="replace").splitlines()

    def _last_words(self) -> str:
        lines = [line for line in self._lines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (errors or lines or ["it said nothing"])[-1][:400]


def _record(line: str) -> dict[str, str]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
