"""The settings of a server that are searched, and how."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

BATCH_SIZES = (4, 8, 16, 32)
TIMEOUTS_S = (0.001, 0.01, 0.05)


@dataclass(frozen=True)
class Tuning:
    """batch_timeout_s, streams: None where a server has none. in_flight: of the closed loop."""

    batch_rows: int
    batch_timeout_s: float | None
    in_flight: int
    streams: int | None = None

    @property
    def served(self) -> tuple[int, float | None, int | None]:
        """What the server itself is started with."""
        return self.batch_rows, self.batch_timeout_s, self.streams

    def __str__(self) -> str:
        waits = "" if self.batch_timeout_s is None else f", time-out {self.batch_timeout_s:g} s"
        at_once = "" if self.streams is None else f", streams {self.streams}"
        return f"batch {self.batch_rows}{waits}{at_once}, {self.in_flight} in flight"


class Search:
    """A search along one setting after the other: each is tried at the best of those before.

    Args:
        start: the first tuning to try.
        batch_rows, timeouts_s, streams, in_flight: the values to try of each; `in_flight` also says
            with how many the others are tried, which is the most.
    """

    def __init__(
        self,
        start: Tuning,
        batch_rows: tuple[int, ...],
        timeouts_s: tuple[float, ...],
        streams: tuple[int, ...],
        in_flight: tuple[int, ...],
    ) -> None:
        self.rates: dict[Tuning, float] = {}
        self._start = replace(start, in_flight=max(in_flight))
        self._batch_rows = batch_rows
        self._timeouts_s = timeouts_s if start.batch_timeout_s is not None else ()
        self._streams = streams if start.streams is not None else ()
        self._in_flight = in_flight

    @property
    def is_needless(self) -> bool:
        """Whether there is nothing to choose from."""
        axes = (self._batch_rows, self._timeouts_s, self._streams)
        return not (any(axes) or len(self._in_flight) > 1)

    @property
    def best(self) -> Tuning:
        """The tuning with the highest rate so far; the first one before there is any."""
        return max(self.rates, key=lambda tuning: self.rates[tuning], default=self._start)

    def trials(self) -> Iterator[Tuning]:
        """Yield what to try next; `tell` is to be called with its rate before the next is asked."""
        axes: tuple[tuple[str, tuple[float, ...]], ...] = (
            ("batch_rows", self._batch_rows),
            ("batch_timeout_s", self._timeouts_s),
            ("streams", self._streams),
            ("in_flight", self._in_flight),
        )
        for name, values in axes:
            base = self.best
            for value in values:
                tuning = replace(base, **{name: value})  # type: ignore[arg-type]  # by its own name
                if tuning not in self.rates:
                    yield tuning

    def tell(self, tuning: Tuning, rate: float) -> None:
        """Note the rate of a tuning, in answers/s."""
        self.rates[tuning] = rate
