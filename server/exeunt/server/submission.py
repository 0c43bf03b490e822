"""One request's samples on their way through the engine."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from threading import Lock
from typing import final

from exeunt.engine import Answer
from exeunt.engine.admission import Ticket
from exeunt.engine.pending import Pending
from exeunt.server.bodies import HeldBody
from exeunt.server.streaming import TokenStream


@dataclass(frozen=True)
class Answers:
    """The answers of a request's samples, in their order. is_list: whether to answer a list."""

    answers: list[Answer]
    is_list: bool


@final
class Submission:
    """A request's samples; given up as a whole.

    Filled by a decoding thread, awaited and abandoned by the event loop.

    place: of the first sample. body: is read once. kind, content_type: of the body. deadline_s: on
    `loop`'s clock. stream: of the only sample, where its tokens are to be told.
    """

    def __init__(
        self, place: Ticket, body: HeldBody, kind: str, content_type: str, deadline_s: float
    ) -> None:
        self.place = place
        self.body = body
        self.kind = kind
        self.content_type = content_type
        self.deadline_s = deadline_s
        self.loop = asyncio.get_running_loop()
        self.is_list = False
        self.abandoned = False
        self.stream: TokenStream | None = None
        self._pending: list[Pending] = []
        self._lock = Lock()

    def add(self, pending: Pending) -> None:
        """Take note of a sample that the engine has; cancel it when nobody waits any more."""
        with self._lock:
            self._pending.append(pending)
            if self.abandoned:
                pending.cancel()

    def abandon(self) -> None:
        """Cancel what is under way; what has ended already is not touched."""
        with self._lock:
            self.abandoned = True
            for pending in self._pending:
                pending.cancel()

    async def outcome(
        self, admit: Callable[["Submission"], None], decoders: Executor
    ) -> Answers | TokenStream:
        """Submit everything by `admit`, in another thread, and wait for the answers.

        Of a stream only the first token is waited for.
        """
        await self.loop.run_in_executor(decoders, admit, self)
        self.body.release()  # a waiting request is small
        if self.stream is not None:
            await self.stream.begin()
            return self.stream
        # Wrapped one by one: an error of one that is never awaited would be reported as lost.
        answers = [await asyncio.wrap_future(future) for future in self._pending]
        return Answers(answers, self.is_list)
