"""The tokens of one generation, on their way from the engine's thread to the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import final

from pydantic import BaseModel, Field

from exeunt.engine import Answer
from exeunt.engine.decoding.rules import TokenRules
from exeunt.engine.errors import ExeuntError, RequestCancelled
from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.pending import Pending
from exeunt.engine.reading import PreparedSample
from exeunt.server.errors import DeadlinePassed, InvalidRequest
from exeunt.server.pieces import TextPieces


class TokenBody(BaseModel):
    """One token, as soon as it is chosen: the data of an event `token`."""

    token: int
    text: str | None = Field(
        description="What it adds to the text; all of them together are the answer's `text`."
    )
    exit_layer: int = Field(description="Counts from 1.")
    step: int = Field(description="Its place in the text; counts from 1.")


def check_streams(sample: PreparedSample) -> None:
    """Refuse a sample whose tokens are not certain before its answer is.

    Raises:
        InvalidRequest: says what to leave out.
    """
    name, options = sample.task.spec.name, sample.asked.options
    if sample.task.lane.spec.loop is None:
        raise InvalidRequest(f"task {name!r} generates no text: leave `stream` out")
    if options.allowed:
        raise InvalidRequest(
            f"task {name!r} chooses among allowed answers here, which are all scored before one is"
            " certain: leave `stream` out"
        )
    if options.beams > 1:
        raise InvalidRequest(
            f"{options.beams} beams compete until the end, so no token is certain before: leave"
            " `beams` or `stream` out"
        )


@final
class TokenStream:
    """What the engine tells of one sample, kept until its reader takes it.

    The engine's thread never waits for the reader: it leaves its tokens here, no more than the loop
    has steps. When the time is up, the sample is given up, whether anyone reads or not.

    sample: that is generated, after `check_streams`. loop: where the reader is. deadline_s: on the
    loop's clock.
    """

    def __init__(
        self, sample: PreparedSample, loop: asyncio.AbstractEventLoop, deadline_s: float
    ) -> None:
        spec = sample.task.lane.spec.loop
        assert spec is not None, "other samples are refused"
        self._rules = TokenRules.of(spec, sample.asked.options)
        self._pieces = TextPieces(sample.task.detokenise)
        self._loop = loop
        self._deadline_s = deadline_s
        self._told: deque[tuple[int, int] | None] = deque()  # None stands for the end
        self._arrived = asyncio.Event()
        self._pending: Pending | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end: ExeuntError = RequestCancelled("the client left")  # if it is given up

    def on_token(self, token: int, found: LaneExit) -> None:
        """Take a token from the engine's thread."""
        self._in_loop(lambda: self._put((token, found.layer)))

    def attach(self, pending: Pending) -> None:
        """Name the future of the answer, from any thread; its end is told after all tokens."""
        self._pending = pending
        pending.add_done_callback(lambda _: self._in_loop(lambda: self._put(None)))

    async def begin(self) -> None:
        """Wait until there is something to send.

        Raises:
            ExeuntError: the sample failed before its first token.
        """
        self._timer = self._loop.call_at(self._deadline_s, self._expire)
        try:
            await self._wait()
            if self._told[0] is None:
                self.answer()
        except BaseException:
            self.close()  # nobody will read it
            raise

    async def next(self) -> TokenBody | None:
        """Return the next token, once it is chosen; None when there are no more."""
        await self._wait()
        told = self._told[0]
        if told is None:
            return None
        self._told.popleft()
        token, layer = told
        self._pieces.add(token)
        tokens = self._pieces.tokens
        piece = self._pieces.piece(is_last=self._rules.ends(tokens))
        return TokenBody(token=token, text=piece, exit_layer=layer, step=len(tokens))

    def answer(self) -> Answer:
        """Return the answer, when `next` has returned None.

        Raises:
            ExeuntError: what the sample failed with, or why it was given up.
        """
        assert self._pending is not None, "attached before it is read"
        if self._pending.cancelled():
            raise self._end
        return self._pending.result()

    def close(self) -> None:
        """Give the sample up, unless it has ended; its rows are free within one step."""
        if self._timer is not None:
            self._timer.cancel()
        if self._pending is not None:
            self._pending.cancel()

    def _expire(self) -> None:
        self._end = DeadlinePassed("no answer in time: retry later, or ask for fewer tokens")
        self.close()

    async def _wait(self) -> None:
        while not self._told:
            self._arrived.clear()
            await self._arrived.wait()

    def _put(self, told: tuple[int, int] | None) -> None:
        self._told.append(told)
        self._arrived.set()

    def _in_loop(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(call)
