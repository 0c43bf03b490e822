"""SIGTERM as an ordinary exit: once, nested, in any order, and from other threads."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from exeunt.bench.load.sigterm import exit_on_sigterm

STATUS = 128 + signal.SIGTERM


@pytest.fixture(autouse=True)
def before() -> Iterator[object]:
    """The handler that was there; after each test it must be there again."""
    found = signal.getsignal(signal.SIGTERM)
    yield found
    left = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, found)
    assert left is found


@pytest.mark.parametrize("times", [1, 2])
def test_the_first_signal_exits(times: int) -> None:
    for _ in range(times):
        with pytest.raises(SystemExit) as ended, exit_on_sigterm():
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == STATUS


def test_a_second_signal_does_not_cut_the_clean_up_short() -> None:
    cleaned = []

    def signalled_throughout() -> None:
        try:
            with exit_on_sigterm():
                try:
                    signal.raise_signal(signal.SIGTERM)
                finally:
                    signal.raise_signal(signal.SIGTERM)
                    cleaned.append("inner")
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("outer")

    with pytest.raises(SystemExit) as ended, exit_on_sigterm():
        signalled_throughout()
    assert cleaned == ["inner", "outer"]
    assert ended.value.code == STATUS


def test_blocks_are_left_in_any_order(before: object) -> None:
    first, second = exit_on_sigterm(), exit_on_sigterm()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)
    second.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_handler_set_within_the_block_stays(before: signal.Handlers) -> None:
    def other(*_: object) -> None:
        """Do nothing."""

    with exit_on_sigterm():
        signal.signal(signal.SIGTERM, other)
    assert signal.getsignal(signal.SIGTERM) is other
    signal.signal(signal.SIGTERM, before)


def test_a_handler_that_python_did_not_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    with exit_on_sigterm():
        monkeypatch.undo()
        assert not _is_ours()


def test_in_another_thread_nothing_changes() -> None:
    seen = []

    def enter() -> None:
        with exit_on_sigterm():
            seen.append(_is_ours())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [False]


WORKER_CLEANS_UP = """
import os, signal, threading, time
from exeunt.bench.load.sigterm import exit_on_sigterm
entered = threading.Event()
def bench():
    with exit_on_sigterm():
        try:
            entered.set()
            time.sleep(0.3)
        finally:
            print("stopped its server", flush=True)
thread = threading.Thread(target=bench)
with exit_on_sigterm():
    thread.start()
    entered.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    thread.join()
"""


def test_a_bench_in_another_thread_cleans_up_before_the_process_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WORKER_CLEANS_UP], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "stopped its server\n"
    assert ended.returncode == STATUS


def _is_ours() -> bool:
    return type(signal.getsignal(signal.SIGTERM)).__module__ == "exeunt.bench.load.sigterm"
