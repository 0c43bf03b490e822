"""A peer in a process of its own, whose thread pool is of another size than this one's."""

from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection

from exeunt.bench.peers.base import Exits, Peer, PeerRun
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.errors import SegmentError

CLOSE_S = 10.0


class OwnProcess:
    """Serves the samples in another process, which takes the seconds itself.

    ONNX Runtime has one thread pool a process: beside an engine of several streams, whose pool is
    smaller, a peer that is to compute on all threads needs a process of its own.

    Args:
        name: the peer's.
        build: makes the peer, and anything else to be known of it, in the new process; a function
            at the top of a module, or a `partial` of one.

    Raises:
        SegmentError: `build` failed; the message says why.
    """

    def __init__(self, name: str, build: Callable[[], tuple[Peer, object]]) -> None:
        self.name = name
        context = get_context("spawn")  # a forked process's compute pool would have no threads
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, build), daemon=True)
        self._process.start()
        there.close()
        self._closed = False
        try:
            found = self._answer()
        except SegmentError:
            self.close()
            raise
        assert isinstance(found, tuple), "what was built comes first"
        settings, self.known = found
        self.settings: dict[str, str | int] = {**settings, "processes": 1}

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:
        """Hand the process the samples; see `Peer.prepare`."""
        self._pipe.send((list(samples), exits))
        self._answer()

    def run(self) -> PeerRun:
        """Serve all samples once; see `Peer.run`."""
        self._pipe.send(None)
        found = self._answer()
        assert isinstance(found, PeerRun), "a run answers nothing else"
        return found

    def close(self) -> None:
        """End the process."""
        if self._closed:
            return
        self._closed = True
        self._pipe.close()  # which ends a process that waits for work
        self._process.join(CLOSE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self) -> object:
        try:
            found = self._pipe.recv()
        except EOFError:
            raise SegmentError(
                f"the process of the peer {self.name} has died: is memory short?"
            ) from None
        if isinstance(found, Exception):
            raise SegmentError(f"the process of the peer {self.name} failed: {found}") from found
        return found


def _work(pipe: Connection, build: Callable[[], tuple[Peer, object]]) -> None:
    """Serve until the pipe is closed; what fails is sent back."""
    try:
        peer, known = build()
        pipe.send((peer.settings, known))
        while True:
            order = pipe.recv()
            if order is None:
                pipe.send(peer.run())
            else:
                peer.prepare(*order)
                pipe.send(None)
    except EOFError:
        return
    except Exception as error:  # whatever it is, the parent must hear of it
        pipe.send(error)
