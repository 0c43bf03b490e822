"""Errors of the HTTP layer, and the one table from error type to status.

`docs/errors.md` is written from the table: `python -m exeunt.server.errors > docs/errors.md`.
"""

import sys
from dataclasses import dataclass

from exeunt.engine.errors import EngineStopped, ExeuntError, InputError

RETRY_AFTER_S = 1


class MalformedBody(InputError):
    """The body is not what its media type says: bad JSON, base64, multipart or UTF-8."""

    error_type = "malformed_body"


class InvalidRequest(InputError):
    """The body is well formed, but a field is unknown, missing or of the wrong kind."""

    error_type = "invalid_request"


class BodyTooLarge(InputError):
    """The body is over the cap."""

    error_type = "body_too_large"


class BodyTimeout(InputError):
    """The body did not arrive in time."""

    error_type = "body_timeout"


class UnsupportedMediaType(InputError):
    """The body is of a media type or encoding that is not taken."""

    error_type = "unsupported_media_type"


class OverrideRefused(InputError):
    """The configuration does not allow this override of the exit policy."""

    error_type = "override_refused"


class Loading(EngineStopped):
    """The bundle is being loaded and warmed up."""

    error_type = "loading"


class Draining(EngineStopped):
    """The server is shutting down."""

    error_type = "draining"


class Unhealthy(EngineStopped):
    """A segment failed and has not passed its self-check since."""

    error_type = "unhealthy"


class DeadlinePassed(ExeuntError):
    """The answer was not there in time."""

    error_type = "deadline_passed"


@dataclass(frozen=True)
class ErrorEntry:
    """What an error type means to a client.

    status: of the HTTP response. meaning: what happened. action: what the client can do.
    retry: whether the response carries Retry-After.
    """

    status: int
    meaning: str
    action: str
    retry: bool = False


ERROR_TABLE: dict[str, ErrorEntry] = {
    "malformed_body": ErrorEntry(
        400, "the JSON, base64, multipart or UTF-8 of the body is broken", "mend the body"
    ),
    "override_refused": ErrorEntry(
        403,
        "the server's configuration does not allow this override of criterion or threshold",
        "leave it out, or have `server.overrides` changed",
    ),
    "not_found": ErrorEntry(404, "there is no such path", "see /docs for the paths"),
    "method_not_allowed": ErrorEntry(
        405, "the path does not take this method", "use the method in the Allow header"
    ),
    "body_timeout": ErrorEntry(
        408, "the body did not arrive within `server.request_timeout_s`", "send it faster"
    ),
    "body_too_large": ErrorEntry(
        413, "the body is over `server.max_body_bytes`", "send smaller images or fewer samples"
    ),
    "unsupported_media_type": ErrorEntry(
        415,
        "the body is neither JSON nor multipart/form-data, is compressed or not UTF-8",
        "send application/json or multipart/form-data",
    ),
    "invalid_request": ErrorEntry(
        422, "a field is unknown, missing, of the wrong kind or out of range", "mend the field"
    ),
    "input": ErrorEntry(
        422, "the sample is not of the kind that this model takes", "see /info for what it takes"
    ),
    "image": ErrorEntry(
        422,
        "an image cannot be decoded, is over a cap, animated, a URL or not 8-bit RGB or grey",
        "send one PNG, JPEG, WebP, BMP or GIF frame within the caps of `limits`",
    ),
    "regions": ErrorEntry(
        422,
        "regions are missing, not finite, of the wrong shape or layout, over a cap, or too many",
        "send what a detector writes for this model, see docs/regions.md",
    ),
    "text": ErrorEntry(
        422, "the text is empty, over the cap of characters or tokens", "shorten or write the text"
    ),
    "tensor": ErrorEntry(
        422, "a raw tensor has the wrong name, shape or dtype", "send what the manifest names"
    ),
    "exit_policy": ErrorEntry(
        422, "an override does not fit the model", "name a criterion that the lane offers"
    ),
    "queue_full": ErrorEntry(429, "every place is taken", "retry later", retry=True),
    "cancelled": ErrorEntry(499, "the client left (in logs and metrics only)", "none"),
    "segment_failed": ErrorEntry(
        500, "a part of the model failed while it ran", "retry; the server checks itself"
    ),
    "model_output_invalid": ErrorEntry(
        500, "the model answered with numbers that are not finite", "report it; retrying is no use"
    ),
    "internal": ErrorEntry(500, "a defect of the server", "report it with the request's id"),
    "config": ErrorEntry(500, "a setting is wrong (at start only)", "mend the configuration"),
    "bundle": ErrorEntry(500, "the bundle is damaged (at start only)", "export it again"),
    "backend_unavailable": ErrorEntry(
        500, "the backend's library is missing (at start only)", "install it"
    ),
    "loading": ErrorEntry(503, "the model is being loaded", "retry later", retry=True),
    "draining": ErrorEntry(503, "the server is shutting down", "retry elsewhere", retry=True),
    "unhealthy": ErrorEntry(
        503, "a part of the model failed and is being checked", "retry later", retry=True
    ),
    "engine_stopped": ErrorEntry(
        503, "the engine is closed or dead", "retry elsewhere", retry=True
    ),
    "deadline_passed": ErrorEntry(
        504, "no answer within `server.request_timeout_s`", "retry later, or send less at once"
    ),
}


def entry_of(error_type: str) -> ErrorEntry:
    """Return the table's entry; that of `internal` for a type it does not hold."""
    return ERROR_TABLE.get(error_type, ERROR_TABLE["internal"])


def error_page() -> str:
    """Return the table as the Markdown of `docs/errors.md`."""
    lines = [
        "# Errors",
        "",
        "Every error body is `{error, error_type}`; `error` says what was wrong and what to do.",
        "A list of samples fails as a whole: one request, one status. 429 and 503 carry",
        "`Retry-After`. A stream that has begun ends with the same body, as its event `error`.",
        "Written from the table in `server/exeunt/server/errors.py` by",
        "`python -m exeunt.server.errors > docs/errors.md`; do not edit.",
        "",
        "| Status | `error_type` | What happened | What to do |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {entry.status} | `{error_type}` | {entry.meaning} | {entry.action} |"
        for error_type, entry in ERROR_TABLE.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(error_page())
