"""Waiting for another thread without guessing how long it takes."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from exeunt.engine.backends.base import LoadedSegment, Tensors, bind_by_copy
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import Manifest

DEADLINE_S = 20.0


def eventually(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Return as soon as the condition holds; fail when it still does not at the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, "the condition does not come true"
        time.sleep(0.001)


class Hold:
    """A gate before one segment. entered: set once it waits there."""

    def __init__(self) -> None:
        self.gate = Event()
        self.entered = Event()


class GatedBackend:
    """The fake backend behind a gate: segments wait until it is open.

    inner: the fake. gate: set to let segments run. entered: set once a segment waits at the gate.
    raising: what a segment raises in place of running, by segment.
    """

    name = "fake"
    compiles_shapes = False

    def __init__(self, *, is_open: bool = False) -> None:
        self.inner = FakeBackend()
        self.gate = Event()
        self.entered = Event()
        self.raising: dict[str, BaseException] = {}
        self._holds: dict[str, Hold] = {}
        if is_open:
            self.gate.set()

    def load(self, manifest: Manifest, root: Path, segment: str) -> LoadedSegment:
        """Return the fake's segment behind the gate."""
        return _GatedSegment(self, segment, self.inner.load(manifest, root, segment))

    def hold(self, segment: str) -> "Hold":
        """Put a gate of its own before a segment."""
        return self._holds.setdefault(segment, Hold())

    def wait(self, segment: str) -> None:
        """Wait until the gates before a segment are open."""
        self.entered.set()
        assert self.gate.wait(DEADLINE_S), "the test never opened the gate"
        if hold := self._holds.get(segment):
            hold.entered.set()
            assert hold.gate.wait(DEADLINE_S), f"the test never opened the gate of {segment}"

    def close(self) -> None:
        """Close the fake."""
        self.inner.close()

    def rows_by_call(self, segment: str) -> list[int]:
        """Return the rows of each batch that went through a segment."""
        return [rows for name, rows in self.inner.calls if name == segment]


class _GatedSegment:
    def __init__(self, backend: GatedBackend, name: str, inner: LoadedSegment) -> None:
        self._backend = backend
        self._name = name
        self._inner = inner

    def run(self, inputs: Tensors) -> Tensors:
        self._backend.wait(self._name)
        if error := self._backend.raising.get(self._name):
            raise error
        return self._inner.run(inputs)

    def bind(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        return bind_by_copy(self, inputs, outputs)
