"""Where simulated requests come from: a schedule, or clients of which each waits for its answer."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol


class Source(Protocol):
    """Requests to come, in the order of their times."""

    @property
    def next_s(self) -> float:
        """When the next request is sent; infinity when none is known to come."""
        ...

    def take(self) -> tuple[float, int]:
        """Return the next request's time and its sample's place."""
        ...

    def answered(self, now_s: float) -> None:
        """Hear that a request has ended."""
        ...


class OpenSource:
    """Sends at scheduled times, whatever happens to the earlier requests.

    times_s: ascending. samples: of each, its place.
    """

    def __init__(self, times_s: Sequence[float], samples: Sequence[int]) -> None:
        self._times_s = times_s
        self._samples = samples
        self._place = 0

    @property
    def next_s(self) -> float:
        """When the next request is scheduled."""
        return self._times_s[self._place] if self._place < len(self._times_s) else math.inf

    def take(self) -> tuple[float, int]:
        """Return the next request; see `Source`."""
        place = self._place
        self._place = place + 1
        return self._times_s[place], self._samples[place]

    def answered(self, now_s: float) -> None:
        """Go on as scheduled."""


class ClosedSource:
    """Keeps requests under way: each end sends the next.

    in_flight: how many. until_s: none is sent from then on. samples: how many there are, in turns.
    """

    def __init__(self, in_flight: int, until_s: float, samples: int) -> None:
        self._until_s = until_s
        self._samples = samples
        self._due = deque([0.0] * in_flight)
        self._sent = 0

    @property
    def next_s(self) -> float:
        """When the next request is sent."""
        return self._due[0] if self._due else math.inf

    def take(self) -> tuple[float, int]:
        """Return the next request; see `Source`."""
        self._sent += 1
        return self._due.popleft(), (self._sent - 1) % self._samples

    def answered(self, now_s: float) -> None:
        """Send the next one at once."""
        if now_s < self._until_s:
            self._due.append(now_s)
