"""Residents: the requests under way, as many as the slabs have room for."""

from exeunt.engine.lanes.request import Request


class Residents:
    """Counts the requests that have entered their lanes and not yet ended.

    capacity: how many may; each lane's slab has a slot for every unit of so many, so that no
    request ever waits for a slot that another one holds while waiting for its own.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether nobody more may enter."""
        return self.count >= self.capacity

    def enter(self, request: Request) -> None:
        """Count a request until its `let_go`."""
        self.count += 1
        request.on_end = self._leave

    def _leave(self) -> None:
        self.count -= 1
