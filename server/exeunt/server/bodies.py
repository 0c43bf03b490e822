"""Reading bodies under caps: of one request, of all that are held, and of time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from exeunt.engine.errors import QueueFull, RequestCancelled
from exeunt.server.errors import BodyTimeout, BodyTooLarge, MalformedBody


class BodyReader:
    """Reads bodies; belongs to one event loop.

    max_bytes: of one body. max_held_bytes: of all bodies that are held at once.
    """

    def __init__(self, max_bytes: int, max_held_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_held_bytes = max_held_bytes
        self.held_bytes = 0

    def check_length(self, content_length: str | None) -> None:
        """Refuse a body by its declared length, before a byte of it is read.

        Raises:
            BodyTooLarge: it is over the cap.
            MalformedBody: the header is no number.
        """
        if content_length is None:
            return
        if not (content_length.isascii() and content_length.isdigit()):
            raise MalformedBody("Content-Length is not a number: let the client set it")
        # Longer numerals than any cap are not converted: that takes quadratic time.
        if len(content_length) > 18 or int(content_length) > self._max_bytes:
            raise self._too_large()

    @asynccontextmanager
    async def hold(self, request: Request, deadline_s: float) -> AsyncIterator["HeldBody"]:
        """Read the body and account for it until it is released or the block is left.

        Args:
            request: whose body has not been touched.
            deadline_s: on the event loop's clock.

        Raises:
            BodyTooLarge: more bytes came than the cap, at once when they do.
            BodyTimeout: the deadline passed.
            QueueFull: too much is held already.
            RequestCancelled: the client left.
        """
        body = HeldBody(self)
        try:
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._read(request, body)
            except TimeoutError:
                raise BodyTimeout("the body did not arrive in time: send it faster") from None
            except ClientDisconnect:
                raise RequestCancelled("the client left") from None
            yield body
        finally:
            body.release()

    async def _read(self, request: Request, body: "HeldBody") -> None:
        chunks: list[bytes] = []
        async for chunk in request.stream():
            body.size += len(chunk)
            self.held_bytes += len(chunk)
            chunks.append(chunk)
            if body.size > self._max_bytes:
                raise self._too_large()
            if self.held_bytes > self._max_held_bytes:
                raise QueueFull("too many bytes of bodies are held already: retry later")
        body.content = b"".join(chunks)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body is over {self._max_bytes} bytes: send smaller images or fewer samples"
        )


class HeldBody:
    """A body in memory. size: bytes that it is accounted with."""

    def __init__(self, reader: BodyReader) -> None:
        self.content = b""
        self.size = 0
        self._reader = reader

    def release(self) -> None:
        """Forget the content; releasing twice is harmless."""
        self._reader.held_bytes -= self.size
        self.size = 0
        self.content = b""
