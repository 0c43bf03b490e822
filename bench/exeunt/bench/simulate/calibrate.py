"""Measuring what segments and steps cost in an engine that serves: the simulator's numbers.

The engine's own start-up calibration times segments alone, the best of three; in service there are
a load generator beside it, caches that others use, and the steps' own work. So the engine serves
closed loops from one request in flight up to all that it holds, and its trace and its counters say
what a batch of each size took.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from exeunt.bench.load import Target, closed_loop
from exeunt.bench.report import this_machine
from exeunt.bench.simulate.costs import CostFile, LaneCosts, Line, OwnTime, StageCosts
from exeunt.bench.simulate.settings import SAMPLES
from exeunt.engine import Engine
from exeunt.engine.bundle.consistency import lane_order
from exeunt.engine.bundle.manifest import LaneSpec, Manifest
from exeunt.engine.errors import ConfigError
from exeunt.engine.scheduling import SegmentCost, fit_cost
from exeunt.engine.stats import StepTimes
from exeunt.engine.trace import TracedBatch

SECONDS = 2.0  # of each closed loop
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Loop:
    """One closed loop.

    batches: in their order. spent: the counters' increase. wall_s: from the first batch's start to
    the last one's end. requests: that were answered.
    """

    batches: Sequence[TracedBatch]
    spent: StepTimes
    wall_s: float
    requests: int

    @property
    def batch_units(self) -> float:
        """Units of a batch on average."""
        return sum(len(batch.requests) for batch in self.batches) / len(self.batches)

    @property
    def between_s(self) -> float:
        """Seconds between batches that no step accounts for: taking requests in."""
        ran_s = sum(batch.ended_s - batch.started_s for batch in self.batches)
        return max(0.0, self.wall_s - ran_s - self.spent.schedule_s - self.spent.route_s)


def calibrate(
    engine: Engine,
    target: Target,
    *,
    task: str | None = None,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> CostFile:
    """Serve closed loops and return what batches and steps took in them.

    Args:
        engine: warmed, and used by nobody else meanwhile.
        target: sends samples of the engine's to it; some must reach the last layer.
        task: whose lanes; the only one without it.
        seconds: of each loop.
        progress: called with what comes next.

    Raises:
        ConfigError: a lane loops, the bundle has several tasks and none is named, or the engine was
            opened without its warm-up.
    """
    lanes = _lanes_of(engine.manifest, task)
    if engine.costs is None:
        raise ConfigError(
            "the engine does not know its costs: warm it up, with `sizes` for a bundle that takes"
            " raw tensors of free sizes (EXEUNT__ENGINE__SIZES)"
        )
    loops = []
    for in_flight in _levels(engine):
        if progress:
            progress(f"measuring costs: {in_flight} in flight")
        loops.append(_serve(engine, target, in_flight, seconds))
    config, machine = engine.config, this_machine(engine.config.compute_threads)
    return CostFile(
        name=engine.manifest.name,
        lanes=tuple(_lane_costs(engine, index, spec, loops) for index, spec in lanes),
        own=_own_time(loops),
        measured_rows=config.max_batch_rows,
        setting={
            "backend": config.backend,
            "precision": config.precision,
            "threads": config.compute_threads,
            "cpu": machine.cpu,
            "cores": machine.cores,
        },
    )


def _levels(engine: Engine) -> list[int]:
    """Return the numbers of requests in flight, ascending: from single rows to full batches."""
    config, rows = engine.config, engine.rows_per_sample
    residents = max(1, config.resident_rows // rows)
    batch = max(1, config.max_batch_rows // rows)
    return sorted({1, min(4, residents), min(batch, residents), residents})


def _serve(engine: Engine, target: Target, in_flight: int, seconds: float) -> Loop:
    before = StepTimes(**vars(engine.stats.step))
    trace = engine.start_trace()
    try:
        run = closed_loop(
            target, cycle(range(SAMPLES)), in_flight=in_flight, warm_up_s=0.0, seconds=seconds
        )
    finally:
        engine.stop_trace()
    if not trace.batches or any(outcome.error for outcome in run.outcomes):
        kinds = sorted({outcome.error for outcome in run.outcomes if outcome.error})
        raise ConfigError(f"the engine failed while its costs were measured: {kinds}")
    spent = {name: now - getattr(before, name) for name, now in vars(engine.stats.step).items()}
    wall_s = trace.batches[-1].ended_s - trace.batches[0].started_s
    return Loop(trace.batches, StepTimes(**spent), wall_s, len(run.outcomes))


def _lanes_of(manifest: Manifest, task: str | None) -> list[tuple[int, LaneSpec]]:
    """Return the lanes that a task needs, with their places in the engine; the last one answers."""
    tasks = {spec.name: spec for spec in manifest.tasks}
    if task is None and len(tasks) > 1:
        raise ConfigError(f"the bundle has several tasks: name one of {sorted(tasks)} with --task")
    chosen = task or next(iter(tasks))
    if chosen not in tasks:
        raise ConfigError(f"task {chosen!r} is not one of the bundle's: {sorted(tasks)}")
    needed = {tasks[chosen].lane}
    order = lane_order(manifest)
    for name in reversed(order):
        if name in needed:
            needed |= set(manifest.lane(name).join)
    lanes = [(place, manifest.lane(name)) for place, name in enumerate(order) if name in needed]
    if loops := [spec.name for _, spec in lanes if spec.loop]:
        raise ConfigError(
            f"lane {loops[0]!r} loops once a token, and how often is not known beforehand: only"
            " bundles without loops can be simulated"
        )
    return lanes


def _lane_costs(engine: Engine, index: int, spec: LaneSpec, loops: Sequence[Loop]) -> LaneCosts:
    assert engine.costs is not None, "asked before"
    names = [*spec.setup, *([spec.entry] if spec.entry else []), *spec.layers]
    unit_rows = spec.rows if spec.unit == "group" else 1
    inside = _inside(loops)
    measured: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for loop in loops:
        for batch in loop.batches:
            if batch.lane == spec.name:
                rows, seconds = len(batch.requests) * unit_rows, batch.ended_s - batch.started_s
                measured[batch.segment, batch.layer].append((rows, seconds))
    stages = []
    for place, name in enumerate(names):
        layer = max(0, place - (len(names) - spec.depth) + 1)
        whole = fit_cost(*zip(*measured[name, layer], strict=True))
        stages.append(
            StageCosts(
                segment=name,
                layer=layer,
                alpha_s=max(0.0, whole.alpha_s - inside.alpha_s),
                beta_s=max(0.0, whole.beta_s - inside.beta_s),
                planned=Line.of(engine.costs.stages[index, place]),
            )
        )
    return LaneCosts(
        name=spec.name,
        join=tuple(spec.join),
        unit_rows=unit_rows,
        units=spec.rows // unit_rows,
        exits=bool(spec.scores),
        stages=tuple(stages),
    )


def _own_time(loops: Sequence[Loop]) -> OwnTime:
    inside, outside = _inside(loops), _line(loops, lambda s: s.schedule_s + s.route_s)
    full = loops[-1]
    return OwnTime(
        step_s=inside.alpha_s + outside.alpha_s,
        row_s=inside.beta_s + outside.beta_s,
        request_s=full.between_s / max(1, full.requests),
    )


def _inside(loops: Sequence[Loop]) -> SegmentCost:
    """Return the engine's own time between the start and the end of a batch."""
    return _line(loops, lambda spent: spent.gather_s + spent.judge_s + spent.keep_s)


def _line(loops: Sequence[Loop], part: Callable[[StepTimes], float]) -> SegmentCost:
    """Return a step's seconds as a line over its units, from the emptiest and fullest batches."""
    ends = (loops[0], loops[-1])
    (few, few_s), (many, many_s) = (
        (loop.batch_units, part(loop.spent) / max(1, loop.spent.steps)) for loop in ends
    )
    slope = (many_s - few_s) / (many - few) if many > few else 0.0
    if slope <= 0:
        return SegmentCost((few_s + many_s) / 2, 0.0)
    constant = few_s - slope * few
    return SegmentCost(constant, slope) if constant >= 0 else SegmentCost(0.0, many_s / many)
