"""Start-up: every stage is run at a few batch sizes, which warms it up and tells what it costs."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from exeunt.engine.backends.base import Array
from exeunt.engine.exit_policy.compiled import CompiledPolicy
from exeunt.engine.lanes.plan import LanePlan, Plan, TaskPlan
from exeunt.engine.lanes.request import Request
from exeunt.engine.lanes.slabs import Slabs
from exeunt.engine.lanes.unit import Unit, enter_lane
from exeunt.engine.pending import Pending
from exeunt.engine.probe import run_propagate
from exeunt.engine.scheduling.costs import Costs, SegmentCost, fit_cost
from exeunt.engine.step.runner import Runners

SMALL_BATCH = 4
# Timed walks of a size; one before them warms up. A stage that ran twice in a row would find its
# weights and its code in the caches, which it does not in service.
WALKS = 3
BUDGET_S = 1.0  # of one walk at the largest batch; where it would take longer, a smaller one serves
WARM_S = 30.0  # of running all batch sizes; those of the longest samples are always run

Measured = dict[tuple[int, int], dict[int, list[float]]]  # by lane and stage: seconds by rows


class Calibration:
    """Walks blank samples through every lane, to full depth, and times each stage with its head.

    slabs: where they have their slots. policy: any; nobody is judged. max_batch_rows: the largest.
    """

    def __init__(
        self, plan: Plan, slabs: Slabs, policy: CompiledPolicy, max_batch_rows: int
    ) -> None:
        self._plan = plan
        self._slabs = slabs
        self._policy = policy
        self._max_batch_rows = max_batch_rows
        self._measured: Measured = defaultdict(lambda: defaultdict(list))

    def measure(self, streams: Sequence[Runners], tensors: Mapping[str, Array]) -> Costs:
        """Return the fitted costs of every stage of every task.

        Args:
            streams: whose frames are warmed; the first one's are timed.
            tensors: one blank sample's raw tensors, without a sample axis.

        Raises:
            SegmentError: a segment failed.
        """
        for lane in self._plan.lanes:
            run_propagate(lane)
        first, largest = streams[0], max(1, self._max_batch_rows // self._plan.rows)
        self._time(first, tensors, 1)
        if largest > 1:
            small = min(SMALL_BATCH, largest)
            taken_s = self._time(first, tensors, small)
            affordable = int(small * BUDGET_S / max(taken_s, 1e-9))
            if min(largest, affordable) > small:
                self._time(first, tensors, min(largest, affordable))
        stages = self._fit()
        for runners in streams[1:]:
            self._walk_all(runners, tensors, largest)
        return Costs(stages, self._followers())

    def warm_sizes(self, runners: Runners, blank: Sequence[Mapping[str, Array]]) -> None:
        """Run every stage once at every batch size, the largest first.

        For backends that compile kernels for each shape that they meet. That takes a millisecond a
        layer, and a large model so long to run all sizes of all its lengths that the longest one,
        and what fits into half a minute, has to do.

        Args:
            runners: of any stream.
            blank: raw tensors of one sample of each size, ascending.

        Raises:
            SegmentError: a segment failed.
        """
        end_s = time.perf_counter() + WARM_S
        for tensors in reversed(blank):
            for count in range(max(1, self._max_batch_rows // self._plan.rows), 0, -1):
                if tensors is not blank[-1] and time.perf_counter() > end_s:
                    return
                self._walk_all(runners, tensors, count)

    def _fit(self) -> dict[tuple[int, int], SegmentCost]:
        return {
            stage: fit_cost(list(sizes), [median(seconds) for seconds in sizes.values()])
            for stage, sizes in self._measured.items()
        }

    def _followers(self) -> dict[int, tuple[int, ...]]:
        lanes = self._plan.lanes
        return {
            lane.index: tuple(other.index for other in lanes if lane.name in other.spec.join)
            for lane in lanes
        }

    def _time(self, runners: Runners, tensors: Mapping[str, Array], count: int) -> float:
        """Walk so many samples a few times, and note the times; return the seconds of one walk."""
        self._walk_all(runners, tensors, count)
        started_s = time.perf_counter()
        for _ in range(WALKS):
            self._walk_all(runners, tensors, count, self._measured)
        return (time.perf_counter() - started_s) / WALKS

    def _walk_all(
        self,
        runners: Runners,
        tensors: Mapping[str, Array],
        count: int,
        measured: Measured | None = None,
    ) -> None:
        """Walk so many samples through every task; note the times where they count."""
        for task in self._plan.tasks.values():
            self._walk_task(runners, task, tensors, count, measured)

    def _walk_task(
        self,
        runners: Runners,
        task: TaskPlan,
        tensors: Mapping[str, Array],
        count: int,
        measured: Measured | None,
    ) -> None:
        shapes = tuple(tensors[name].shape for name in self._plan.manifest.tensors)
        requests = [
            Request(task, dict(tensors), shapes, self._policy, Pending(), 0.0) for _ in range(count)
        ]
        try:
            for lane in task.lanes:
                units = [unit for request in requests for unit in self._enter(request, lane)]
                fitting = max(1, self._max_batch_rows // lane.unit_rows)
                for first in range(0, len(units), fitting):
                    self._walk_lane(runners, lane, units[first : first + fitting], measured)
                for unit in units:
                    unit.request.finished.setdefault(lane.name, []).append(unit)
        finally:
            for request in requests:
                request.let_go()

    def _enter(self, request: Request, lane: LanePlan) -> list[Unit]:
        units = enter_lane(request, lane)
        for unit in units:
            unit.settle(self._slabs.of(lane, request.shape_key))
        request.units += units
        return units

    def _walk_lane(
        self, runners: Runners, lane: LanePlan, units: Sequence[Unit], measured: Measured | None
    ) -> None:
        shapes, slab = units[0].request.shape_key, units[0].slab
        assert slab is not None, "the units have their slots"
        slots = np.array([unit.slot for unit in units], dtype=np.intp)
        for place, stage in enumerate(lane.stages):
            runner = runners.of(lane, place, shapes, slab)
            batch = runner.load(place, units, slots)
            started_s = time.perf_counter()
            batch.frame.call()
            if stage.layer in lane.heads:
                runner.head(lane.heads[stage.layer], batch)
            seconds = time.perf_counter() - started_s
            runner.keep(batch)
            if measured is not None:
                measured[lane.index, place][len(units) * lane.unit_rows].append(seconds)
        if lane.final_head is not None:
            runner.head(lane.final_head, batch)
