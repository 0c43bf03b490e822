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
from exeunt.server.leaving import Client
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

    stream: that has begun. client: who reads it. body_of: the JSON of an answer. errors: makes and
    counts errors' bodies. log: the request's fields.
    """

    def __init__(
        self,
        stream: TokenStream,
        client: Client,
        body_of: Callable[[Answer], str],
        errors: ErrorResponses,
        log: dict[str, Any],
    ) -> None:
        self._stream = stream
        self._client = client
        self._body_of = body_of
        self._errors = errors
        self._log = log
        self._defect: Exception | None = None
        self._has_begun = False
        self._events = self._all()
        super().__init__(self._events, headers=_HEADERS, media_type=EVENTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (the interface's; `client` receives)
        """Send the events."""
        try:
            head = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **head})
            self._has_begun = True
            async with aclosing(self._events):
                await self._client.unless_left(self._send(send))
        except (RequestCancelled, OSError):  # OSError: how some servers tell of it
            self._error(RequestCancelled("the client left"))
        except asyncio.CancelledError:  # the drain took too long
            if not self._has_begun:
                raise
            late = Draining("the server had to stop before the answer: retry elsewhere")
            await send({"type": "http.response.body", "body": self._error(late)})
        finally:
            self._stream.close()
        if self._defect is not None:
            raise self._defect

    async def _send(self, send: Send) -> None:
        async for body in self._events:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _all(self) -> AsyncGenerator[bytes, None]:
        try:
            while (body := await self._next()) is not None:
                yield body
            answer = self._stream.answer()
            body = event("answer", self._body_of(answer))
        except ExeuntError as error:
            yield self._error(error)
        except Exception as error:  # a defect of ours: told like any other error, then logged
            self._defect = error
            yield event("error", self._errors.internal_body().model_dump_json())
        else:
            self._log |= {"exit_layer": answer.exit_layer, "tokens": len(answer.tokens)}
            yield body

    async def _next(self) -> bytes | None:
        """Return the next token's event, or a comment when none comes for long; None at the end."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                token = await self._stream.next()
        except TimeoutError:
            return _HEARTBEAT
        return None if token is None else event("token", token.model_dump_json())

    def _error(self, error: ExeuntError) -> bytes:
        self._log["error_type"] = error.error_type
        return event("error", self._errors.body_of(error).model_dump_json())
