"""SIGTERM as an ordinary exit, so that what a bench has started is stopped before it ends."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Exit:
    """The handler that all open `exit_on_sigterm` blocks share; the last one takes it away."""

    def __init__(self) -> None:
        self.blocks = 0
        self._begun = False
        self._before = signal.signal(signal.SIGTERM, self)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self._begun:  # a second signal would cut short the clean-up that the first began
            self._begun = True
            sys.exit(128 + number)

    def remove(self) -> None:
        found: object = signal.getsignal(signal.SIGTERM)
        if found is self:  # else somebody put another in its place
            signal.signal(signal.SIGTERM, self._before)


_shared: _Exit | None = None


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn the first SIGTERM within the block into `SystemExit`; ignore later ones.

    Blocks may be nested, entered again, and left in any order. Python hands signals to its main
    thread alone: in another thread nothing changes, and who runs a bench there enters the block in
    the main thread, which then waits for the other before the process ends. A handler that was
    not set by Python stays as well, since Python could not put it back.
    """
    global _shared
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is None:
        yield
        return
    if _shared is None:
        _shared = _Exit()
    handler = _shared
    handler.blocks += 1
    try:
        yield
    finally:
        handler.blocks -= 1
        if not handler.blocks:
            _shared = None
            handler.remove()
