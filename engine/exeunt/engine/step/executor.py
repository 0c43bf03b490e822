"""The executor: runs one batch through one stage and says what became of each unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exeunt.engine.errors import ExeuntError, SegmentError
from exeunt.engine.exit_policy.format import Fills
from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.stats import BatchTimes
from exeunt.engine.step.frame import Slots
from exeunt.engine.step.judging import Exits, at_depth, judge
from exeunt.engine.step.ran import Ran
from exeunt.engine.step.runner import Runners

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pass:
    """A batch's way through one stage, by its place in the lane, on the executor's clock."""

    place: int
    started_s: float
    ended_s: float
    times: BatchTimes


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a batch. staying: wait for their next stage. leaving: with their exits.

    passes: the stages that it ran, one after the other.
    """

    staying: Sequence[Unit]
    leaving: list[tuple[Unit, LaneExit]]
    passes: Sequence[Pass]


class Executor:
    """Runs the batches of one stream, in its runners' memory."""

    def __init__(self, runners: Runners, clock: Clock) -> None:
        self._runners = runners
        self._clock = clock

    def run(self, units: Sequence[Unit]) -> Moved:
        """Run the stage at which the units stand, and those chained to it, and judge them.

        Args:
            units: at least one, all of one lane, stage and batch key.

        Raises:
            SegmentError: the segment or a head failed; the units cannot go on.
        """
        lane, passes = units[0].lane, []
        while True:
            place = units[0].stage
            exits, done = self._pass(lane, place, units)
            passes.append(done)
            for unit in units:
                unit.stage += 1
            if exits or not lane.chained[place]:
                return _moved(units, exits, passes)

    def _pass(self, lane: LanePlan, place: int, units: Sequence[Unit]) -> tuple[Exits, Pass]:
        """Run one stage; return who leaves."""
        first, stage, clock = units[0], lane.stages[place], self._clock
        assert first.slab is not None, "units take their slots before they run"
        started_s = clock()
        try:
            runner = self._runners.of(lane, place, first.request.shape_key, first.slab)
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
            if exits and lane.spec.caches:
                _leave_behind(units, slots, stage.layer, exits)
        except ExeuntError:
            raise
        except Exception as error:  # whatever a backend or its library lets through
            raise SegmentError(f"segment {stage.name!r} failed: {error}") from error
        times = BatchTimes(
            place == 0,
            gathered_s - started_s,
            ran_s - gathered_s,
            ran.head_s,
            judged_s - ran_s - ran.head_s,
            (ended_s := clock()) - judged_s,
        )
        return exits, Pass(place, started_s, ended_s, times)

    @staticmethod
    def _without_layers(lane: LanePlan, ran: Ran) -> Exits:
        if lane.depth == 0 and ran.place == len(lane.stages) - 1:
            return at_depth(ran, None, range(len(ran.units)))
        return {}


def _leave_behind(units: Sequence[Unit], slots: Slots, layer: int, exits: Exits) -> None:
    """Note in the caches what units that leave early have skipped."""
    caches = units[0].slab.caches if units[0].slab is not None else None
    assert caches is not None, "the lane keeps caches"
    by_fill: dict[Fills, list[int]] = {}
    for place in exits:
        by_fill.setdefault(units[place].policy.fill, []).append(place)
    for fill, places in by_fill.items():
        steps = np.array([len(units[place].tokens) for place in places], dtype=np.intp)
        caches.left(layer, slots[places], steps, fill)


def _moved(units: Sequence[Unit], exits: Exits, passes: Sequence[Pass]) -> Moved:
    if not exits:
        return Moved(units, [], passes)
    staying = [unit for place, unit in enumerate(units) if place not in exits]
    return Moved(staying, [(units[place], found) for place, found in sorted(exits.items())], passes)
