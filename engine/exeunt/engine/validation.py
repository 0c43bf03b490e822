"""What pydantic found wrong, in words for people."""

from collections.abc import Sequence

from pydantic import ValidationError

_BRANCHES = ("list[", "tuple[", "function-", "constrained-")


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return where the first problem lies, empty for the top, and what it is."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return dotted(first["loc"]), plain(first["msg"])


def dotted(loc: Sequence[int | str]) -> str:
    """Return an error's place without pydantic's names for the sides of a union."""
    return ".".join(str(part) for part in loc if not _is_branch(part))


def plain(message: str) -> str:
    """Return a message without pydantic's mark of a check of ours."""
    return message.removeprefix("Value error, ")


def _is_branch(part: int | str) -> bool:
    return isinstance(part, str) and (part.startswith(_BRANCHES) or part in ("float", "int"))
