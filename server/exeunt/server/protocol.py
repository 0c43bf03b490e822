"""HTTP over a connection, with a cap on what is kept before a request can be looked at."""

from typing import final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 1 << 20  # above the largest single read, which may hold a part of the body too


@final
class BoundedHttp(HttpToolsProtocol):
    """Ends a connection whose request line and headers do not end; uvicorn would keep them all."""

    _in_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"The request's head is over {MAX_HEAD_BYTES} bytes.")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Go on with the body."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Go on with the next request's head."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()
