"""An engine in this process as a target."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from numpy.typing import NDArray

from exeunt.bench.load.outcome import Done, Reading, Reply
from exeunt.engine import Answer, Engine
from exeunt.engine.errors import ExeuntError
from exeunt.engine.exit_policy import CompiledPolicy

Tensors = Mapping[str, NDArray[Any]]


class EngineTarget:
    """Sends prepared samples to an engine; the generator shares the engine's interpreter.

    Args:
        engine: opened.
        inputs: the raw tensors of each sample, as `Engine.prepare` returns them.
        policy: judges the requests, from `Engine.compile`; the engine's own when None.
        task: which one, where the bundle has several.
    """

    def __init__(
        self,
        engine: Engine,
        inputs: Sequence[Tensors],
        policy: CompiledPolicy | None = None,
        task: str | None = None,
    ) -> None:
        self._engine = engine
        self._inputs = inputs
        self._policy = policy
        self._task = task
        self._under_way: set[Future[Answer]] = set()

    def send(self, sample: int, done: Done) -> None:
        """Submit a sample; see `Target.send`."""
        sent_s = time.perf_counter()
        try:
            with self._engine.reserve() as ticket:
                pending = self._engine.submit_tensors(
                    ticket, self._inputs[sample], self._task, self._policy
                )
        except ExeuntError as error:
            done(Reply(sent_s, time.perf_counter(), error.error_type))
            return
        self._under_way.add(pending)
        pending.add_done_callback(lambda ended: self._ended(ended, sent_s, done))

    def abandon(self) -> None:
        """Cancel what is under way."""
        for pending in list(self._under_way):
            pending.cancel()

    def read(self, answer: object) -> Reading:
        """Return what an `Answer` says."""
        if not isinstance(answer, Answer):
            raise ValueError(f"expected an Answer, found a {type(answer).__name__}")
        return Reading(
            label=answer.label,
            index=answer.index,
            exit_layer=answer.exit_layer,
            depth=answer.depth,
            layers_run=sum(lane.exit_layer for lane in answer.lanes.values()),
            layers_possible=sum(lane.depth for lane in answer.lanes.values()),
        )

    def generator_cpu_s(self) -> float:
        """Return the CPU seconds of the calling thread."""
        return time.thread_time()

    def _ended(self, pending: Future[Answer], sent_s: float, done: Done) -> None:
        """Pass a reply on; runs in the engine's thread, so it does no more than that."""
        done_s = time.perf_counter()
        self._under_way.discard(pending)
        if pending.cancelled():
            done(Reply(sent_s, done_s, "timeout"))
        elif error := pending.exception():
            kind = error.error_type if isinstance(error, ExeuntError) else "internal"
            done(Reply(sent_s, done_s, kind))
        else:
            done(Reply(sent_s, done_s, None, pending.result()))
