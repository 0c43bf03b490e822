"""The plain loop in a process of its own: its thread pool may be of another size than ours."""

from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from exeunt.bench.generation.plain_loop import LoopRun, LoopSample, PlainLoop
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.errors import SegmentError

CLOSE_S = 10.0


class LoopProcess:
    """Serves samples by `PlainLoop`, which takes the seconds itself.

    Args:
        bundle: its directory.
        threads: of the loop's pool.
        batch_rows: of its batches.
        cache_dir: of the joined graphs.
        samples: by task.

    Raises:
        SegmentError: the process cannot serve; the message says why.
    """

    def __init__(
        self,
        bundle: Path,
        threads: int,
        batch_rows: int,
        cache_dir: Path | None,
        samples: dict[str, list[LoopSample]],
    ) -> None:
        context = get_context("spawn")  # a forked process's compute pool would have no threads
        self._pipe, there = context.Pipe()
        given = (there, bundle, threads, batch_rows, cache_dir)
        self._process = context.Process(target=_work, args=given, daemon=True)
        self._process.start()
        there.close()
        self._pipe.send(samples)
        self._answer()

    def run(self, task: str) -> LoopRun:
        """Serve a task's samples once."""
        self._pipe.send(task)
        found = self._answer()
        assert isinstance(found, LoopRun), "a run answers nothing else"
        return found

    def close(self) -> None:
        """End the process; closing twice is harmless."""
        if not self._pipe.closed:
            self._pipe.close()  # which ends a process that waits for work
            self._process.join(CLOSE_S)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()

    def _answer(self) -> object:
        try:
            found = self._pipe.recv()
        except EOFError:
            raise SegmentError("the process of the plain loop has died: is memory short?") from None
        if isinstance(found, Exception):
            raise SegmentError(f"the process of the plain loop failed: {found}") from found
        return found


def _work(
    pipe: Connection, root: Path, threads: int, batch_rows: int, cache_dir: Path | None
) -> None:
    """Serve until the pipe is closed; what fails is sent back."""
    try:
        loop = PlainLoop(Bundle.open(root), threads, batch_rows, cache_dir)
        samples: dict[str, Sequence[LoopSample]] = pipe.recv()
        pipe.send(None)
        while True:
            pipe.send(loop.run(samples[pipe.recv()]))
    except EOFError:
        return
    except Exception as error:  # whatever it is, the parent must hear of it
        pipe.send(error)
