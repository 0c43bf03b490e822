"""A request driven message by message, for what an HTTP client cannot do."""

import asyncio
import json
from typing import Any

from starlette.types import Message

from tests.server.serving import TEXT, Served, png

BOUNDARY = "B"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form_body(shade: int = 0) -> bytes:
    """Return a form with an image and a text."""
    field = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    text = f'{field}"text"\r\n\r\n{TEXT}\r\n'
    head = f'{field}"image"; filename="a.png"\r\n\r\n'
    return (text + head).encode() + png(shade) + f"\r\n--{BOUNDARY}--\r\n".encode()


def events_of(content: bytes) -> list[tuple[str, Any]]:
    """Return the name and the data of each server-sent event; of a comment, "" and its text."""
    events: list[tuple[str, Any]] = []
    *blocks, rest = content.decode().split("\n\n")
    assert rest == "", "the last event is whole"
    for block in blocks:
        if block.startswith(":"):
            events.append(("", block[1:].strip()))
            continue
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


class RawRequest:
    """One `/predict` request to an application.

    content_type: of the body; a form's by default. sent: what the application has answered.
    reading: cleared while the client takes nothing.
    """

    def __init__(self, served: Served, content_type: str = FORM_TYPE) -> None:
        self.sent: list[Message] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self._content_type = content_type
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
            "headers": [(b"content-type", self._content_type.encode())],
        }

        async def send(message: Message) -> None:
            await self.reading.wait()
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

    def events(self) -> list[tuple[str, Any]]:
        """Return the server-sent events so far."""
        return events_of(b"".join(message.get("body", b"") for message in self.sent))

    def cancel(self) -> None:
        """Do as a server that stops before the answer."""
        assert self._task is not None
        self._task.cancel()

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
