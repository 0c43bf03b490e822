"""A request driven message by message, for what an HTTP client cannot do."""

import asyncio
from typing import Any

from starlette.types import Message

from tests.server.serving import TEXT, Served, png

BOUNDARY = "B"


def form_body(shade: int = 0) -> bytes:
    """Return a form with an image and a text."""
    field = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    text = f'{field}"text"\r\n\r\n{TEXT}\r\n'
    head = f'{field}"image"; filename="a.png"\r\n\r\n'
    return (text + head).encode() + png(shade) + f"\r\n--{BOUNDARY}--\r\n".encode()


class RawRequest:
    """One `/predict` request to an application. sent: what the application has answered."""

    def __init__(self, served: Served) -> None:
        self.sent: list[Message] = []
        self._app = served.app
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Send the head of the request."""
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/predict",
            "raw_path": b"/predict",
            "query_string": b"",
            "headers": [(b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode())],
        }

        async def send(message: Message) -> None:
            self.sent.append(message)

        self._task = asyncio.get_running_loop().create_task(
            self._app(scope, self._messages.get, send)
        )

    def body(self, content: bytes, *, more: bool = False) -> None:
        """Send a part of the body."""
        self._messages.put_nowait({"type": "http.request", "body": content, "more_body": more})

    def leave(self) -> None:
        """Close the connection."""
        self._messages.put_nowait({"type": "http.disconnect"})

    async def end(self) -> int:
        """Wait until the application is through and return the status."""
        assert self._task is not None
        await self._task
        return int(self.sent[0]["status"])


async def until(condition: Any, limit_s: float = 5.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.002)
