"""One table from error type to status, and the page written from it."""

from collections.abc import Iterator
from pathlib import Path

import exeunt.server.app  # noqa: F401  (so that every error class is known)
from exeunt.engine.errors import ExeuntError
from exeunt.server.errors import ERROR_TABLE, error_page

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def _subclasses(kind: type[ExeuntError]) -> Iterator[type[ExeuntError]]:
    yield kind
    for under in kind.__subclasses__():
        yield from _subclasses(under)


def test_every_error_is_in_the_table() -> None:
    # Export and training fail on a terminal, never behind HTTP.
    served = [
        kind
        for kind in _subclasses(ExeuntError)
        if kind.__module__.startswith(("exeunt.engine", "exeunt.server"))
    ]
    assert len(served) > 20
    assert {kind.error_type for kind in served} <= set(ERROR_TABLE)


def test_statuses_are_errors_and_retries_are_for_load() -> None:
    for entry in ERROR_TABLE.values():
        assert 400 <= entry.status < 600
        assert entry.retry == (entry.status in (429, 503))


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == error_page(), "run: python -m exeunt.server.errors > docs/errors.md"
