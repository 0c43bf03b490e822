"""Measuring what segments and steps cost in an engine that serves: the simulator's numbers.

The engine's own start-up calibration times segments alone, three times; in service there are
a load generator beside it, caches that others use, and the steps' own work. So the engine serves:
as many requests at once as it holds, a batch of them, and Poisson arrivals that let it rest. Its
trace and its counters say what a batch of each size took.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from exeunt.bench.load import Target
from exeunt.bench.report import this_machine
from exeunt.bench.simulate.costs import (
    MAX_SPREAD,
    CostFile,
    LaneCosts,
    Line,
    OwnTime,
    StageCosts,
)
from exeunt.bench.simulate.serving import OPEN_SHARE, Served, Serving
from exeunt.engine import Engine
from exeunt.engine.bundle.consistency import lane_order
from exeunt.engine.bundle.manifest import LaneSpec, Manifest
from exeunt.engine.errors import ConfigError
from exeunt.engine.scheduling import SegmentCost
from exeunt.engine.stats import StepTimes
from exeunt.engine.trace import TracedBatch

SECONDS = 2.0  # of each closed loop; the open one takes twice as long
LEAST_SPREAD = 100  # fewer batches do not tell how those of one size differ

Place = tuple[str, str, int]  # lane, segment, layer
Sizes = dict[int, list[float]]  # seconds of batches, by their units
Progress = Callable[[str], None]


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
        seconds: of each closed loop; the open one takes twice as long.
        progress: called with what comes next.

    Raises:
        ConfigError: a lane loops, the bundle has several tasks and none is named, or the engine was
            opened without its warm-up, or a segment hardly ran.
    """
    lanes = _lanes_of(engine.manifest, task)
    if engine.costs is None:
        raise ConfigError(
            "the engine does not know its costs: warm it up, with `sizes` for a bundle that takes"
            " raw tensors of free sizes (EXEUNT__ENGINE__SIZES)"
        )
    loops = _serve(engine, target, seconds, progress or (lambda _: None))
    config, machine = engine.config, this_machine(engine.config.compute_threads)
    return CostFile(
        name=engine.manifest.name,
        lanes=tuple(_lane_costs(engine, index, spec, loops) for index, spec in lanes),
        own=_own_time(loops),
        spread=_spread(loops),
        measured_rows=config.max_batch_rows,
        setting={
            "backend": config.backend,
            "precision": config.precision,
            "threads": config.compute_threads,
            "streams": config.streams,
            "cpu": machine.cpu,
            "cores": machine.cores,
        },
    )


def _serve(engine: Engine, target: Target, seconds: float, tell: Progress) -> list[Served]:
    """Return the loops, those of small batches first."""
    config, rows, serving = engine.config, engine.rows_per_sample, Serving(engine, target)
    residents = max(1, config.resident_rows // rows)
    batch = min(residents, max(1, config.max_batch_rows // rows))
    tell(f"measuring costs: {residents} in flight")
    full = serving.closed(residents, seconds)
    tell(f"measuring costs: {batch} in flight")
    some = serving.closed(batch, seconds)
    rate = OPEN_SHARE * full.requests / full.wall_s
    tell(f"measuring costs: {rate:.3g} requests/s")
    few = serving.open(rate, 2 * seconds)
    return [few, some, full]


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


def _lane_costs(engine: Engine, index: int, spec: LaneSpec, loops: Sequence[Served]) -> LaneCosts:
    assert engine.costs is not None, "asked before"
    packed = spec.packed if engine.layouts[spec.name] == "packed" else None
    layers = packed.layers if packed else spec.layers
    names = [*spec.setup, *([spec.entry] if spec.entry else []), *layers]
    unit_rows = spec.rows if spec.unit == "group" else 1
    inside = _inside(loops)
    measured = _durations(loops)
    stages = []
    for place, name in enumerate(names):
        layer = max(0, place - (len(names) - spec.depth) + 1)
        if not any(measured[spec.name, name, layer]):
            raise ConfigError(f"{name} hardly ran while costs were measured: measure for longer")
        whole = _fit(measured[spec.name, name, layer], unit_rows)
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


def _durations(loops: Sequence[Served]) -> dict[Place, list[Sizes]]:
    """Return the batches' seconds by their units, of each loop, by lane, segment and layer.

    The first batch of a size lays out its memory, which a warm engine has done: it is left out
    wherever there is another.
    """
    found: dict[Place, list[Sizes]] = defaultdict(lambda: [defaultdict(list) for _ in loops])
    first: dict[tuple[Place, int], int] = {}
    counts: Counter[tuple[Place, int]] = Counter()
    for number, loop in enumerate(loops):
        for batch in loop.batches:
            place, units = _kind(batch)
            found[place][number][units].append(batch.ended_s - batch.started_s)
            first.setdefault((place, units), number)
            counts[place, units] += 1
    for (place, units), number in first.items():
        if counts[place, units] > 1:
            sizes = found[place][number]
            sizes[units] = sizes[units][1:]
            if not sizes[units]:
                del sizes[units]
    return found


def _fit(loops: Sequence[Sizes], unit_rows: int) -> SegmentCost:
    """Return the line through the mean times of each size and loop, by the least relative squares.

    Means, since a queue feels every batch: those that took long must not be fitted away. Every loop
    has the same weight, so that the line holds for small batches and for full ones.
    """
    points = [
        (units * unit_rows, fmean(found), len(found) / sum(map(len, sizes.values())))
        for sizes in loops
        for units, found in sizes.items()
    ]
    rows, seconds, weights = (
        np.array(column, dtype=np.float64) for column in zip(*points, strict=True)
    )
    beta, alpha = 0.0, -1.0
    if len(set(rows)) > 1:
        beta, alpha = np.polyfit(rows, seconds, 1, w=np.sqrt(weights) / seconds)
    if alpha < 0:
        return SegmentCost(0.0, float(np.average(seconds / rows, weights=weights)))
    if beta < 0:
        return SegmentCost(float(np.average(seconds, weights=weights)), 0.0)
    return SegmentCost(float(alpha), float(beta))


def _spread(loops: Sequence[Served]) -> tuple[float, ...]:
    """Return how much longer each batch took than the mean of its loop, stage and size.

    In the order of the batches: a machine is slow for a while, not for a batch, and a queue feels
    the difference. The least loaded loop comes first; of too many, its beginning and what follows.
    """
    factors: list[float] = []
    for loop in loops:
        groups: dict[tuple[Place, int], list[float]] = defaultdict(list)
        for batch in loop.batches:
            groups[_kind(batch)].append(batch.ended_s - batch.started_s)
        # The first of a size lays out its memory; a size met once tells nothing.
        means = {kind: fmean(found[1:]) for kind, found in groups.items() if len(found) > 1}
        met: set[tuple[Place, int]] = set()
        for batch in loop.batches:
            kind = _kind(batch)
            if kind in met:
                factors.append((batch.ended_s - batch.started_s) / means[kind])
            met.add(kind)
    return tuple(factors[:MAX_SPREAD]) if len(factors) >= LEAST_SPREAD else ()


def _kind(batch: TracedBatch) -> tuple[Place, int]:
    return (batch.lane, batch.segment, batch.layer), len(batch.requests)


def _own_time(loops: Sequence[Served]) -> OwnTime:
    inside, outside = _inside(loops), _line(loops, lambda s: s.schedule_s + s.route_s)
    full = loops[-1]
    return OwnTime(
        step_s=inside.alpha_s + outside.alpha_s,
        row_s=inside.beta_s + outside.beta_s,
        request_s=full.between_s / max(1, full.requests),
    )


def _inside(loops: Sequence[Served]) -> SegmentCost:
    """Return the engine's own time between the start and the end of a batch."""
    return _line(loops, lambda spent: spent.stack_s + spent.gather_s + spent.judge_s + spent.keep_s)


def _line(loops: Sequence[Served], part: Callable[[StepTimes], float]) -> SegmentCost:
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
