"""Server-sent events: a response that tells tokens while the engine chooses them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from exeunt.engine import Answer
from exeunt.engine.errors import ExeuntError, RequestCancelled
from exeunt.server.errors import Draining
from exeunt.server.leaving import unless_left
from exeunt.server.responses import ErrorResponses
from exeunt.server.streaming import TokenStream

EVENTS = "text/event-stream"
HEARTBEAT_S = 10.0
_HEARTBEAT = b": waiting\n\n"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect the events otherwise
}


def event(name: str, data: str) -> bytes:
    """Return one event of a stream. data: JSON, which is a single line."""
    return f"event: {name}\ndata: {data}\n\n".encode()


@final
class EventResponse(StreamingResponse):
    """Sends `token` events, then one `answer` or one `error`.

    Unlike its base it listens for the client's leaving on every server, gives the sample up then,
    and says in an event why it has to end early.

    stream: that has begun. body_of: the JSON of an answer. errors: makes and counts errors' bodies.
    log: the request's fields.
    """

    def __init__(
        self,
        stream: TokenStream,
        body_of: Callable[[Answer], str],
        errors: ErrorResponses,
        log: dict[str, Any],
    ) -> None:
        self._stream = stream
        self._body_of = body_of
        self._errors = errors
        self._log = log
        self._defect: Exception | None = None
        self._events = self._all()
        super().__init__(self._events, headers=_HEADERS, media_type=EVENTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (the interface's)
        """Send the events."""
        try:
            async with aclosing(self._events):
                await unless_left(receive, self.stream_response(send))
        except (RequestCancelled, OSError):  # OSError: how some servers tell of it
            self._error(RequestCancelled("the client left"))
        except asyncio.CancelledError:  # the drain took too long
            late = Draining("the server had to stop before the answer: retry elsewhere")
            await send({"type": "http.response.body", "body": self._error(late)})
        finally:
            self._stream.close()
        if self._defect is not None:
            raise self._defect

    async def _all(self) -> AsyncGenerator[bytes, None]:
        try:
            async for token in self._tokens():
                yield token
            answer = self._stream.answer()
            body = self._body_of(answer)
        except ExeuntError as error:
            yield self._error(error)
        except Exception as error:  # a defect of ours: told like any other error, then logged
            self._defect = error
            yield event("error", self._errors.internal_body().model_dump_json())
        else:
            self._log |= {"exit_layer": answer.exit_layer, "tokens": len(answer.tokens)}
            yield event("answer", body)

    async def _tokens(self) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    token = await self._stream.next()
            except TimeoutError:
                yield _HEARTBEAT
                continue
            if token is None:
                return
            yield event("token", token.model_dump_json())

    def _error(self, error: ExeuntError) -> bytes:
        self._log["error_type"] = error.error_type
        return event("error", self._errors.body_of(error).model_dump_json())
