"""Residents: the requests under way, as many as the slabs have room for."""

from collections.abc import Callable

from exeunt.engine.lanes.request import Request


class Residents:
    """Counts the requests that have entered their lanes and not yet ended.

    capacity: how many may; each lane's slab has a slot for every unit of so many, so that no
    request ever waits for a slot that another one holds while waiting for its own. One whose text
    has several hypotheses counts as so many.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0

    def fits(self, request: Request) -> bool:
        """Return whether a request may enter now."""
        return self.count + request.asked.width <= self.capacity

    def enter(self, request: Request, on_end: Callable[[Request], None] | None = None) -> None:
        """Count a request until its `let_go`, which calls `on_end` as well."""
        self.count += request.asked.width

        def leave() -> None:
            self.count -= request.asked.width
            if on_end is not None:
                on_end(request)

        request.on_end = leave
