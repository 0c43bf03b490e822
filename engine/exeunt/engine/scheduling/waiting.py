"""What the scheduler needs to know of what waits: the engine's units, or a simulator's."""

from typing import Protocol

from exeunt.engine.lanes.request import Shapes


class Indexed(Protocol):
    """A lane, known by its place behind every lane it joins."""

    @property
    def index(self) -> int:
        """The lane's place."""
        ...


class Grouped(Protocol):
    """A lane whose rows may have to run together."""

    @property
    def name(self) -> str:
        """The lane's name."""
        ...

    @property
    def unit_rows(self) -> int:
        """Rows that decide together."""
        ...


class Sample(Protocol):
    """The request of a unit; see `Request`."""

    @property
    def deadline_s(self) -> float | None:
        """When the answer is wanted, on the scheduler's clock."""
        ...

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""
        ...

    def let_go(self) -> None:
        """Give up what the request holds."""
        ...


class Waiting(Protocol):
    """A unit; see `Unit`. waiting_s: since when it waits, set by the scheduler."""

    waiting_s: float

    @property
    def request(self) -> Sample:
        """The sample that it belongs to."""
        ...

    @property
    def lane(self) -> Indexed:
        """The lane that it walks."""
        ...

    @property
    def stage(self) -> int:
        """The stage it waits for."""
        ...

    @property
    def batch_key(self) -> Shapes:
        """What units of a stage must have in common to share a batch."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the unit."""
        ...
