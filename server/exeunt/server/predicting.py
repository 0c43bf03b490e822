"""A request's way through the server: place, body, samples, engine, answers."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from threading import Lock
from typing import Any

from fastapi import Request

from exeunt.engine import Answer, Engine
from exeunt.engine.admission import Ticket
from exeunt.engine.errors import RequestCancelled
from exeunt.engine.pending import Pending
from exeunt.server.bodies import BodyReader, HeldBody
from exeunt.server.errors import DeadlinePassed
from exeunt.server.overrides import Overrides
from exeunt.server.parsing import check_media_type, parse_body
from exeunt.server.samples import named
from exeunt.server.settings import ServerSettings


class Predictor:
    """Answers `/predict` requests; belongs to one event loop, which it never blocks."""

    def __init__(self, engine: Engine, settings: ServerSettings) -> None:
        self._engine = engine
        self._timeout_s = settings.request_timeout_s
        self._bodies = BodyReader(settings.max_body_bytes, settings.max_buffered_bytes)
        self._overrides = Overrides(engine, settings.overrides)
        places = engine.config.max_queued_rows // engine.rows_per_sample
        self._max_samples = min(settings.max_samples, places)
        threads = settings.decode_threads or len(os.sched_getaffinity(0))
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="exeunt-decode")

    async def answer(self, request: Request) -> tuple[list[Answer], bool]:
        """Return the answers of a request's samples, and whether they are to be a list.

        A place is reserved before the body is read, and the places of a list's other samples before
        any of them is decoded. When the client leaves or the time is up, everything that is under
        way for it is given up.

        Raises:
            ExeuntError: what went wrong; the request fails as a whole.
        """
        headers = request.headers
        content_type = headers.get("content-type", "")
        kind = check_media_type(content_type, headers.get("content-encoding", ""))
        self._bodies.check_length(headers.get("content-length"))
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        with self._engine.reserve() as place:
            async with self._bodies.hold(request, deadline_s) as body:
                submission = _Submission(place, body, kind, content_type)
                work = submission.answers(self._admit, self._decoders)
                return await _unless_left(request, work, deadline_s)

    def _admit(self, submission: "_Submission") -> None:
        """Parse, decode and submit, in a decoding thread."""
        parsed = parse_body(
            submission.body.content, submission.kind, submission.content_type, self._max_samples
        )
        submission.is_list = parsed.is_list
        samples = parsed.samples
        policies = []
        for place, sample in enumerate(samples):
            with named(place, len(samples)):
                policies.append(self._overrides.policy(sample))
        more = (len(samples) - 1) * self._engine.rows_per_sample
        with ExitStack() as leaving:
            others = leaving.enter_context(self._engine.reserve(more)) if more else submission.place
            tensors = []
            for place, sample in enumerate(samples):
                if submission.abandoned:
                    return
                with named(place, len(samples)):
                    tensors.append(self._engine.prepare(sample.inputs))
            # All samples are known to be good before the first one enters the engine.
            for place, sample in enumerate(samples):
                ticket = submission.place if place == 0 else others
                with named(place, len(samples)):
                    submission.add(
                        self._engine.submit_tensors(
                            ticket, tensors[place], sample.task, policies[place]
                        )
                    )


class _Submission:
    """One request's samples on their way; given up as a whole.

    Filled by a decoding thread, awaited and abandoned by the event loop.
    """

    def __init__(self, place: Ticket, body: HeldBody, kind: str, content_type: str) -> None:
        self.place = place
        self.body = body
        self.kind = kind
        self.content_type = content_type
        self.is_list = False
        self.abandoned = False
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

    async def answers(
        self, admit: Callable[["_Submission"], None], decoders: Executor
    ) -> tuple[list[Answer], bool]:
        """Submit everything by `admit`, in another thread, and wait for the answers."""
        try:
            await asyncio.get_running_loop().run_in_executor(decoders, admit, self)
            self.body.release()  # a waiting request is small
            # Wrapped one by one: an error of one that is never awaited would be reported as lost.
            return [await asyncio.wrap_future(future) for future in self._pending], self.is_list
        finally:
            self.abandon()


async def _unless_left(
    request: Request, work: Coroutine[Any, Any, tuple[list[Answer], bool]], deadline_s: float
) -> tuple[list[Answer], bool]:
    """Return the result of `work`, which is cancelled when the client leaves or the time is up."""
    loop = asyncio.get_running_loop()
    working = loop.create_task(work)
    leaving = loop.create_task(_left(request))
    try:
        await asyncio.wait(
            {working, leaving},
            timeout=deadline_s - loop.time(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if working.done():
            return working.result()
        if leaving.done():
            raise RequestCancelled("the client left")
        raise DeadlinePassed("no answer in time: retry later, or send fewer samples at once")
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    """Return once the client has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
