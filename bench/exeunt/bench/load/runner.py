"""Running both loops in repeats that take turns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np

from exeunt.bench.load.arrivals import Schedule
from exeunt.bench.load.closed_loop import closed_loop
from exeunt.bench.load.measure import Measurement, measure
from exeunt.bench.load.open_loop import open_loop
from exeunt.bench.load.outcome import Target
from exeunt.bench.load.settings import Arrivals, LoadSettings, Policy
from exeunt.bench.load.sweep import Point

Progress = Callable[[str], None]
Measured = dict[Point, list[Measurement]]


class Runner:
    """Measures points: each repeat goes through all of them, every other one backwards.

    So a machine whose speed drifts slows every point alike. In one repeat all points see the same
    samples in the same order, and those at one rate the same arrivals.

    Args:
        targets: by policy.
        labels: each sample's right answer; their number is that of the samples.
        settings: seconds, repeats, seed and so on.
        progress: called before each run with what it is.
    """

    def __init__(
        self,
        targets: Mapping[Policy, Target],
        labels: Sequence[str | None],
        settings: LoadSettings,
        progress: Progress | None = None,
    ) -> None:
        self._targets = targets
        self._labels = labels
        self._settings = settings
        self._progress = progress or (lambda _: None)
        self._arrivals = Arrivals(settings) if settings.is_open else None

    @property
    def seconds(self) -> float:
        """The measured window of each run."""
        return self._arrivals.seconds if self._arrivals else self._settings.window_s

    def saturate(self) -> Measured:
        """Measure every policy in a closed loop."""
        points = [Point(policy, None) for policy in self._targets]
        return self._in_turns(points, self._closed)

    def replay(self, points: Sequence[Point]) -> Measured:
        """Measure points in an open loop."""
        return self._in_turns(points, self._open)

    def _in_turns(
        self, points: Sequence[Point], run: Callable[[Point, int], Measurement]
    ) -> Measured:
        found: Measured = {point: [] for point in points}
        for repeat in range(self._settings.repeats):
            for point in points if repeat % 2 == 0 else reversed(points):
                self._progress(self._describe(point, repeat, run == self._closed))
                found[point].append(run(point, repeat))
        return found

    def _closed(self, point: Point, repeat: int) -> Measurement:
        run = closed_loop(
            self._targets[point.policy],
            self._samples(repeat),
            in_flight=self._settings.in_flight,
            warm_up_s=self._settings.warm_up,
            seconds=self.seconds,
        )
        return measure(run, self._labels, self._settings.slo_ms)

    def _open(self, point: Point, repeat: int) -> Measurement:
        assert self._arrivals is not None, "points are replayed in an open loop"
        schedule = self._arrivals.schedule(point.rate, repeat)
        if schedule.samples is not None:
            schedule = Schedule(schedule.times_s, schedule.samples % len(self._labels))
        run = open_loop(
            self._targets[point.policy],
            schedule,
            self._samples(repeat),
            warm_up_s=self._settings.warm_up,
            seconds=self.seconds,
        )
        return measure(run, self._labels, self._settings.slo_ms)

    def _samples(self, repeat: int) -> Iterator[int]:
        order = np.random.default_rng([self._settings.seed, repeat, 1])
        return cycle(order.permutation(len(self._labels)).tolist())

    def _describe(self, point: Point, repeat: int, closed: bool) -> str:
        if closed:
            load = f"{self._settings.in_flight} in flight"
        else:
            load = "the trace" if point.rate is None else f"{point.rate:.0f} requests/s"
        return f"{point.policy}, {load}, repeat {repeat + 1} of {self._settings.repeats}"
