"""A server in processes of its own: started, frozen while others are measured, and ended."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from exeunt.engine.errors import ConfigError

STOP_S = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.1


class ServedProcess:
    """A server and all processes that it starts.

    Args:
        name: for messages.
        command: starts it; it listens where `port` says.
        environment: its whole environment.
        port: of 127.0.0.1.
        directory: where it runs; this process's own by default.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        port: int,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `stop`)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise ConfigError(f"{name} cannot be started: {error}") from None

    def check(self) -> None:
        """Raise ConfigError, with the last line that it said, when the server has ended."""
        if self._process.poll() is not None:
            raise ConfigError(f"{self.name} ended: {self.last_words()}")

    def last_words(self) -> str:
        """Return the last line that it said, of its errors where there are any."""
        number = self._log.fileno()
        # Not `seek` and `read`: the server writes where the file that it shares with us stands.
        content = os.pread(number, os.fstat(number).st_size, 0).decode("utf-8", errors="replace")
        lines = [line.strip() for line in content.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or ["it said nothing"])[-1][:400]

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its processes that are alive."""
        table = _processes()
        return sum(table[number].cpu_s for number in _family(self._process.pid, table))

    def memory_bytes(self) -> int:
        """Return the resident memory of all its processes; shared pages count in each."""
        table = _processes()
        return sum(table[number].memory_bytes for number in _family(self._process.pid, table))

    def freeze(self) -> None:
        """Take the CPU from it: several frameworks poll while they have nothing to do."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and all its processes; stopping twice is harmless."""
        if self._log.closed:
            return
        self.thaw()
        before = _processes()
        family = _family(self._process.pid, before)
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            time.sleep(_POLL_S)
        # What is left of it, whoever its parent now is. The session is its own, and nobody else's.
        now = _processes()
        left = {n for n, found in now.items() if found.session == self._process.pid}
        left |= {n for n in family if n in now and now[n].started == before[n].started}
        for number in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        for process in _family(self._process.pid, _processes()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Found:
    """One process as the kernel describes it."""

    def __init__(self, stat: str) -> None:
        fields = stat[stat.rindex(")") + 2 :].split()
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.started = int(fields[19])  # with the number, a process's name for good
        self.cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
        self.memory_bytes = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def _processes() -> dict[int, _Found]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended in the meantime
                found[int(entry.name)] = _Found((entry / "stat").read_text(encoding="utf-8"))
    return found


def _family(root: int, table: Mapping[int, _Found]) -> list[int]:
    """Return the process and its descendants, parents first."""
    family = [root] if root in table else []
    for parent in family:
        family += [number for number, found in table.items() if found.parent == parent]
    return family


def free_port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
