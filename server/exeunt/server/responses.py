"""Errors made into responses, counted by type."""

from collections import Counter

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from exeunt.engine.errors import ExeuntError
from exeunt.server.answers import ErrorBody
from exeunt.server.errors import ERROR_TABLE, RETRY_AFTER_S, InvalidRequest, entry_of

_DEFECT = "the server has a defect: report this with X-Request-ID"
_TYPE_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


class ErrorResponses:
    """Makes every error's response and counts it. counts: by error type."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(ERROR_TABLE, 0))

    def of(self, error: ExeuntError) -> Response:
        """Return the response for an error of ours."""
        return self.make(error.error_type, str(error))

    def make(
        self, error_type: str, message: str, headers: dict[str, str] | None = None
    ) -> Response:
        """Return the response for an error type of the table."""
        entry = entry_of(error_type)
        retry = {"Retry-After": str(RETRY_AFTER_S)} if entry.retry else {}
        return Response(
            self._body(error_type, message).model_dump_json(),
            status_code=entry.status,
            headers={**(headers or {}), **retry},
            media_type="application/json",
        )

    def internal(self) -> Response:
        """Return the response for a defect of ours; its details are for the log alone."""
        return self.make("internal", _DEFECT)

    def body_of(self, error: ExeuntError) -> ErrorBody:
        """Return the body alone, counted too, for a response that has begun already."""
        return self._body(error.error_type, str(error))

    def internal_body(self) -> ErrorBody:
        """Return the body of `internal` alone, counted too."""
        return self._body("internal", _DEFECT)

    def _body(self, error_type: str, message: str) -> ErrorBody:
        self.counts[error_type if error_type in ERROR_TABLE else "internal"] += 1
        return ErrorBody(error=message, error_type=error_type)

    def install(self, app: FastAPI) -> None:
        """Give the framework's own errors the same body."""

        async def ours(request: Request, error: Exception) -> Response:
            assert isinstance(error, ExeuntError), "registered for nothing else"
            request.scope["state"]["log"]["error_type"] = error.error_type
            return self.of(error)

        async def http(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException), "registered for nothing else"
            error_type = _TYPE_OF_STATUS.get(error.status_code, "invalid_request")
            headers = dict(error.headers or {})
            return self.make(error_type, _framework_message(request, error), headers)

        async def invalid(request: Request, error: Exception) -> Response:
            kind = type(error).__name__
            return await ours(request, InvalidRequest(f"the request is not valid: {kind}"))

        app.add_exception_handler(ExeuntError, ours)
        app.add_exception_handler(HTTPException, http)
        app.add_exception_handler(RequestValidationError, invalid)


def _framework_message(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return "there is no such path: the API is described under /docs"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{request.method[:20]} is not taken here: use {allowed}"
    return str(error.detail)
