"""What surrounds every request: its id, one line in the log, and a net for defects."""

import asyncio
import random
import re
import time
import traceback

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exeunt.server.errors import Draining
from exeunt.server.responses import ErrorResponses
from exeunt.server.service import Service

REQUEST_ID = "X-Request-ID"
_PROBED = ("/healthz", "/readyz", "/metrics")  # every few seconds, for ever
_SOUND_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_log = structlog.stdlib.get_logger("exeunt.http")


class RequestLog:
    """Pure ASGI middleware, so that a client's leaving reaches the application.

    A request's id is the client's `X-Request-ID`, where it is sound, or a new one. The log names
    no content: the path and what the route puts into `scope["state"]["log"]`.
    """

    def __init__(self, app: ASGIApp, service: Service, errors: ErrorResponses) -> None:
        self._app = app
        self._service = service
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.monotonic()
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _SOUND_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        fields: dict[str, object] = {}
        scope.setdefault("state", {})["log"] = fields
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if self._service.draining:
                    headers["Connection"] = "close"  # so that no idle connection is cut off
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except asyncio.CancelledError:
            if status or not self._service.draining:
                raise
            # The drain took too long: an error that says what to do, instead of a cut connection.
            late = Draining("the server had to stop before the answer: retry elsewhere")
            await self._errors.of(late)(scope, receive, send_marked)
        except Exception as error:  # a defect of ours: the client gets the same body as ever
            _log_defect(error, request_id)
            if status == 0:
                await self._errors.internal()(scope, receive, send_marked)
        level = "debug" if scope["path"] in _PROBED else "info"
        getattr(_log, level)(
            "request",
            request_id=request_id,
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round((time.monotonic() - started_s) * 1e3, 2),
            **fields,
        )


def _log_defect(error: Exception, request_id: str) -> None:
    """Log where it happened, without the message, which may quote a request's content."""
    frames = [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    _log.error("defect", request_id=request_id, kind=type(error).__name__, frames=frames)
