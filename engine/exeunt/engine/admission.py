"""Admission: a place is reserved before anything costly is done for a request."""

from operator import index
from threading import Lock
from types import TracebackType
from typing import Self

from exeunt.engine.errors import InputError, QueueFull


class Admission:
    """Counts the rows that are in the engine or have a place reserved.

    capacity: rows at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._taken = 0
        self._lock = Lock()

    @property
    def taken(self) -> int:
        """Rows that have a place now."""
        return self._taken

    def reserve(self, rows: int) -> "Ticket":
        """Return a ticket for `rows` rows.

        Raises:
            InputError: `rows` is no whole number from 1 on.
            QueueFull: fewer places than that are left.
        """
        try:
            rows = index(rows)
        except TypeError:
            raise InputError(f"{rows!r} rows were asked for: reserve a whole number") from None
        if rows < 1:
            raise InputError(f"{rows} rows were asked for: reserve at least 1")
        with self._lock:
            if self._taken + rows > self._capacity:
                raise QueueFull(
                    f"{self._taken} of {self._capacity} places are taken and {rows} were asked for:"
                    " retry later"
                    if rows <= self._capacity
                    else f"{rows} rows were asked for at once, there are {self._capacity} places:"
                    " send fewer samples in one request"
                )
            self._taken += rows
        return Ticket(self, rows)

    def give_back(self, rows: int) -> None:
        """Free the places of `rows` rows."""
        with self._lock:
            self._taken -= rows


class Place:
    """The rows of one request; given back once, however often it is asked to."""

    def __init__(self, admission: Admission, rows: int) -> None:
        self._admission = admission
        self._rows = rows
        self._lock = Lock()

    def give_back(self) -> None:
        """Free the rows; the request has ended."""
        with self._lock:
            rows, self._rows = self._rows, 0
        if rows:
            self._admission.give_back(rows)


class Ticket:
    """A reserved place; given back exactly once, by `release` or when its request ends.

    As a context manager it is given back on leaving, unless a request took it over.
    """

    def __init__(self, admission: Admission, rows: int) -> None:
        self._admission = admission
        self._rows = rows
        self._left = rows
        self._released = False
        self._lock = Lock()

    @property
    def rows(self) -> int:
        """Rows that it was reserved for."""
        return self._rows

    @property
    def left(self) -> int:
        """Rows that no request has taken yet."""
        return self._left

    def take(self, rows: int) -> "Place":
        """Return the place of a request that uses up `rows` of the ticket's rows.

        Raises:
            QueueFull: the ticket does not hold that many any more.
        """
        with self._lock:
            if rows > self._left:
                raise QueueFull(
                    f"the ticket has {self._left} rows left and the sample needs {rows}: reserve"
                    " enough rows"
                )
            self._left -= rows
        return Place(self._admission, rows)

    def grow(self, rows: int) -> None:
        """Reserve so many rows more: a request turned out to need them.

        A ticket that has been released stays so.

        Raises:
            QueueFull: fewer places than that are left; the ticket stays as it is.
        """
        more = self._admission.reserve(rows)
        with self._lock:
            if not self._released:
                self._rows += more.rows
                self._left += more.rows
                return
        more.release()

    def release(self) -> None:
        """Free the rows that no request took."""
        with self._lock:
            left, self._left, self._released = self._left, 0, True
        if left:
            self._admission.give_back(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
