"""An engine that serves while its trace and its counters say what that took."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from exeunt.bench.load import Run, Target, closed_loop, open_loop, poisson
from exeunt.bench.simulate.settings import SAMPLES
from exeunt.engine import Engine
from exeunt.engine.errors import ConfigError
from exeunt.engine.stats import StepTimes
from exeunt.engine.trace import Trace, TracedBatch

OPEN_SHARE = 0.6  # of the saturation throughput: small batches with rests in between
SEED = 0


@dataclass(frozen=True)
class Served:
    """One loop.

    batches: in the order of their ends. spent: the counters' increase. wall_s: from the first
    batch's start to the last one's end. requests: that were answered. streams: that ran.
    """

    batches: Sequence[TracedBatch]
    spent: StepTimes
    wall_s: float
    requests: int
    streams: int

    @property
    def batch_units(self) -> float:
        """Units of a batch on average."""
        return sum(len(batch.requests) for batch in self.batches) / len(self.batches)

    @property
    def between_s(self) -> float:
        """Seconds between batches, without rests, that no step accounts for: taking requests in."""
        ran_s = sum(batch.ended_s - batch.started_s for batch in self.batches)
        spent_s = ran_s + self.spent.schedule_s + self.spent.route_s
        return max(0.0, self.streams * self.wall_s - spent_s)


class Serving:
    """Serves loops through one engine that nobody else uses."""

    def __init__(self, engine: Engine, target: Target) -> None:
        self._engine = engine
        self._target = target

    def closed(self, in_flight: int, seconds: float) -> Served:
        """Serve a closed loop."""
        trace, before = self._begin()
        samples = cycle(range(SAMPLES))
        run = closed_loop(
            self._target, samples, in_flight=in_flight, warm_up_s=0.0, seconds=seconds
        )
        return self._end(trace, before, run)

    def open(self, rate: float, seconds: float) -> Served:
        """Serve Poisson arrivals at a rate, in requests/s."""
        trace, before = self._begin()
        schedule, samples = poisson(rate, seconds, SEED), cycle(range(SAMPLES))
        run = open_loop(self._target, schedule, samples, warm_up_s=0.0, seconds=seconds)
        return self._end(trace, before, run)

    def _begin(self) -> tuple[Trace, StepTimes]:
        return self._engine.start_trace(), StepTimes(**vars(self._engine.stats.step))

    def _end(self, trace: Trace, before: StepTimes, run: Run) -> Served:
        self._engine.stop_trace()
        kinds = sorted({outcome.error for outcome in run.outcomes if outcome.error})
        if kinds or not trace.batches:
            raise ConfigError(
                f"no costs could be measured: {kinds or 'no request came'}; measure for longer"
            )
        now = vars(self._engine.stats.step)
        spent = StepTimes(**{name: value - getattr(before, name) for name, value in now.items()})
        first_s = min(batch.started_s for batch in trace.batches)
        wall_s = trace.batches[-1].ended_s - first_s
        streams = self._engine.config.streams
        return Served(trace.batches, spent, wall_s, len(run.outcomes), streams)
