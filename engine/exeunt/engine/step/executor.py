"""The executor: runs one batch through one stage and says what became of each unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exeunt.engine.errors import ExeuntError, SegmentError
from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.stats import EngineStats
from exeunt.engine.step.judging import Exits, at_depth, judge
from exeunt.engine.step.ran import Ran
from exeunt.engine.step.runner import Runners

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a batch. staying: wait for their next stage. leaving: with their exits."""

    staying: list[Unit]
    leaving: list[tuple[Unit, LaneExit]]


class Executor:
    """Runs batches in the runners' memory and fills the counters."""

    def __init__(self, runners: Runners, stats: EngineStats, clock: Clock) -> None:
        self._runners = runners
        self._stats = stats
        self._clock = clock

    def run(self, units: Sequence[Unit]) -> Moved:
        """Run the stage at which the units stand and judge them.

        Args:
            units: at least one, all of one lane, stage and batch key.

        Raises:
            SegmentError: the segment or a head failed; the units cannot go on.
        """
        first = units[0]
        lane, place = first.lane, first.stage
        stage = lane.stages[place]
        clock, stats = self._clock, self._stats
        started_s = clock()
        try:
            runner = self._runners.of(lane, place, first.request.shape_key)
            slots = np.fromiter((unit.slot for unit in units), dtype=np.intp, count=len(units))
            batch = runner.load(place, units, slots)
            gathered_s = clock()
            if not batch.has_run:
                batch.frame.call()
            ran_s = clock()
            ran = Ran(runner, batch, clock)
            exits = judge(ran) if stage.layer else self._without_layers(lane, ran)
            judged_s = clock()
            runner.keep(batch)
        except ExeuntError:
            raise
        except Exception as error:  # whatever a backend or its library lets through
            raise SegmentError(f"segment {stage.name!r} failed: {error}") from error
        kept_s = clock()
        rows = len(units) * first.rows
        stats.batch_done(stage.name, lane.name, stage.layer, rows, judged_s - gathered_s)
        spent = stats.step
        if place:
            spent.gather_s += gathered_s - started_s
        else:
            spent.stack_s += gathered_s - started_s
        spent.segment_s += ran_s - gathered_s
        spent.head_s += ran.head_s
        spent.judge_s += judged_s - ran_s - ran.head_s
        spent.keep_s += kept_s - judged_s
        return _moved(units, exits)

    @staticmethod
    def _without_layers(lane: LanePlan, ran: Ran) -> Exits:
        if lane.depth == 0 and ran.place == len(lane.stages) - 1:
            return at_depth(ran, None, range(len(ran.units)))
        return {}


def _moved(units: Sequence[Unit], exits: Exits) -> Moved:
    for unit in units:
        unit.stage += 1
    if not exits:
        return Moved(list(units), [])
    staying = [unit for place, unit in enumerate(units) if place not in exits]
    return Moved(staying, [(units[place], found) for place, found in sorted(exits.items())])
