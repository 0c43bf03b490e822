"""The executor: runs one batch through one stage and says what became of each unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exeunt.engine.backends.base import Array
from exeunt.engine.errors import ExeuntError, SegmentError
from exeunt.engine.lanes.plan import LanePlan, Stage
from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.stats import EngineStats
from exeunt.engine.step.batch import gather, scatter
from exeunt.engine.step.judging import at_depth_zero, judge

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a batch. staying: wait for their next stage. leaving: with their exits."""

    staying: list[Unit]
    leaving: list[tuple[Unit, LaneExit]]


class Executor:
    """Runs batches; holds no state of its own but the counters it fills."""

    def __init__(self, stats: EngineStats, clock: Clock) -> None:
        self._stats = stats
        self._clock = clock

    def run(self, units: Sequence[Unit]) -> Moved:
        """Run the stage at which the units stand and judge them.

        Args:
            units: at least one, all of one lane, stage and shapes.

        Raises:
            SegmentError: the segment or a head failed; the units cannot go on.
        """
        lane = units[0].lane
        stage = lane.stages[units[0].stage]
        started_s = self._clock()
        try:
            before = self._run_stage(lane, stage, units)
            exits = self._judge(lane, stage, units, before)
        except ExeuntError:
            raise
        except Exception as error:  # whatever a backend or its library lets through
            raise SegmentError(f"segment {stage.name!r} failed: {error}") from error
        rows = len(units) * units[0].rows
        self._stats.batch_done(stage.name, lane.name, rows, self._clock() - started_s)
        staying, leaving = [], []
        for unit, found in zip(units, exits, strict=True):
            unit.stage += 1
            if found is None:
                staying.append(unit)
            else:
                leaving.append((unit, found))
        return Moved(staying, leaving)

    @staticmethod
    def _run_stage(lane: LanePlan, stage: Stage, units: Sequence[Unit]) -> dict[str, Array]:
        inputs = gather(stage, units)
        scatter(stage, units, stage.segment.run(inputs))
        if stage.layer == 0:
            return {}
        names = {text: graph for graph, text in stage.inputs}
        return {state: inputs[names[state]] for state in lane.spec.compare if state in names}

    @staticmethod
    def _judge(
        lane: LanePlan, stage: Stage, units: Sequence[Unit], before: dict[str, Array]
    ) -> list[LaneExit | None]:
        if stage.layer:
            return judge(lane, stage.layer, units, before)
        if lane.depth == 0 and units[0].stage == len(lane.stages) - 1:
            return at_depth_zero(lane, units)
        return [None] * len(units)
