"""The sequential loop as it is commonly scaled: one single-threaded process for each core."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.peers.base import Exits, PeerRun
from exeunt.bench.peers.batch1 import Batch1
from exeunt.bench.peers.segments import Segments
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.backends import open_backend
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import ConfigError, SegmentError

Precision = Literal["fp32", "bf16"]
CLOSE_S = 10.0


@dataclass(frozen=True)
class _Share:
    """What one process has served. left: i64[N], 0 for samples that others took."""

    started_s: float
    ended_s: float
    left: Exits
    logits: NDArray[np.float32]


class Batch1Processes:
    """`Batch1` in several processes of one compute thread each.

    Whichever process is free takes the next sample. The processes load the bundle in `prepare` and
    stay until `close`.

    Args:
        bundle: its directory.
        backend: what runs the segments.
        processes: how many; one for each core.
        precision: of the backend.

    Raises:
        ConfigError: there is no process to run.
    """

    name = "batch-1 processes"

    def __init__(
        self, bundle: Path, backend: str, processes: int, precision: Precision = "fp32"
    ) -> None:
        if processes < 1:
            raise ConfigError(f"{processes} processes serve nothing: give at least 1")
        self.settings: dict[str, str | int] = {
            "backend": backend,
            "batch_rows": 1,
            "processes": processes,
        }
        self._arguments = (bundle, backend, precision)
        self._count = processes
        self._workers: list[tuple[BaseProcess, Connection]] = []
        # Spawned: a forked process would inherit a compute pool whose threads are gone.
        self._context = get_context("spawn")
        self._next: Synchronized[int] = self._context.Value("q", 0)

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:
        """Start the processes, unless they run, and hand each of them every sample.

        Raises:
            SegmentError: a process cannot load the bundle; the message says why.
        """
        if not self._workers:
            for _ in range(self._count):
                here, there = self._context.Pipe()
                process = self._context.Process(
                    target=_work, args=(there, self._next, *self._arguments), daemon=True
                )
                process.start()
                there.close()
                self._workers.append((process, here))
        for _, pipe in self._workers:
            pipe.send((list(samples), exits))
        for _, pipe in self._workers:
            _receive(pipe)

    def run(self) -> PeerRun:
        """Serve all samples once; see `Peer.run`.

        The seconds run from the first process that starts to the last that ends: their clocks are
        the machine's own.
        """
        assert self._workers, "prepare comes before run"
        with self._next.get_lock():
            self._next.value = 0
        for _, pipe in self._workers:
            pipe.send(None)
        shares = [found for _, pipe in self._workers if (found := _receive(pipe))]
        started_s = min(share.started_s for share in shares)
        ended_s = max(share.ended_s for share in shares)
        left = np.maximum.reduce([share.left for share in shares])
        logits = np.add.reduce([share.logits for share in shares])
        return PeerRun(ended_s - started_s, left, logits)

    def close(self) -> None:
        """End the processes."""
        for _, pipe in self._workers:
            pipe.close()  # which ends a process that waits for work
        for process, _ in self._workers:
            process.join(CLOSE_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._workers.clear()


def _receive(pipe: Connection) -> _Share | None:
    try:
        found = pipe.recv()
    except EOFError:
        raise SegmentError("a process of the batch-1 peer has died: is memory short?") from None
    if isinstance(found, Exception):
        raise SegmentError(f"a process of the batch-1 peer failed: {found}") from found
    assert found is None or isinstance(found, _Share), "a process answers nothing else"
    return found


def _work(
    pipe: Connection,
    following: "Synchronized[int]",
    root: Path,
    backend: str,
    precision: Precision,
) -> None:
    """Serve until the pipe is closed; what fails is sent back."""
    try:
        bundle = Bundle.open(root, verify=False)
        peer = Batch1(Segments(bundle, open_backend(backend, 1, precision)))
        while True:
            order = pipe.recv()
            if order is not None:
                samples, exits = order
                peer.prepare(samples, exits)
                pipe.send(None)
            else:
                pipe.send(_serve(peer, following, len(samples)))
    except EOFError:
        return
    except Exception as error:  # whatever it is, the parent must hear of it
        pipe.send(error)


def _serve(peer: Batch1, following: "Synchronized[int]", count: int) -> _Share:
    left = np.zeros(count, dtype=np.int64)
    logits = np.zeros((count, peer.segments.lane.classes or 0), dtype=np.float32)
    started_s = time.perf_counter()
    while (place := _take(following)) < count:
        peer.serve_batch(place, left, logits)
    return _Share(started_s, time.perf_counter(), left, logits)


def _take(following: "Synchronized[int]") -> int:
    with following.get_lock():
        place = following.value
        following.value = place + 1
    return place
