"""The plan: a manifest's lanes with their segments loaded and every reference resolved."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.bundle.consistency import lane_order
from exeunt.engine.bundle.manifest import LaneSpec, Manifest, PackedSpec, SegmentKind, TaskSpec
from exeunt.engine.bundle.tensors import PACK_TENSORS, Reference

Load = Callable[[str], LoadedSegment]
Detokenise = Callable[[Sequence[int]], str]
PACK = {f"pack.{name}" for name in PACK_TENSORS}


@dataclass(frozen=True)
class Stage:
    """One segment of a lane, at its place.

    inputs: (graph name, reference) pairs. outputs: (graph name, state or head tensor) pairs.
    layer: 0 before the first layer. drops: references that nothing reads after this stage.
    first_written: states of the lane that no stage before this one has written.
    """

    name: str
    kind: SegmentKind
    segment: LoadedSegment
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    layer: int
    drops: tuple[str, ...] = ()
    first_written: tuple[str, ...] = ()


@dataclass(frozen=True)
class LanePlan:
    """A lane ready to be walked.

    index: its place, behind every lane it joins. stages: setup, entry, then the layers.
    first_layer: the stage of layer 1. loop_stage: where a loop's next step begins. external: the
    references that a unit resolves when it enters (raw tensors, other lanes' states). packed: where
    its layers run on packed tokens; None where they run on padded rows. propagate, contexts: see
    `LaneSpec`.
    """

    index: int
    spec: LaneSpec
    stages: tuple[Stage, ...]
    first_layer: int
    loop_stage: int
    heads: dict[int, Stage]
    final_head: Stage | None
    external: tuple[str, ...]
    packed: PackedSpec | None = None
    propagate: Mapping[int, Stage] = field(default_factory=dict)
    contexts: Mapping[int, Stage] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The lane's name."""
        return self.spec.name

    @cached_property
    def depth(self) -> int:
        """Layers of the lane."""
        return self.spec.depth

    @cached_property
    def left_behind(self) -> tuple[str, ...]:
        """The carried states from which the caches of skipped layers are filled."""
        read = {text for stage in self.propagate.values() for _, text in stage.inputs}
        return tuple(sorted(read))

    @cached_property
    def chained(self) -> tuple[bool, ...]:
        """By stage, whether its batch goes straight on to the next one.

        In a loop nothing is decided before the first layer, and every token passes there.
        """
        last = len(self.stages) - 1
        return tuple(
            self.spec.loop is not None and stage.layer == 0 and place < last
            for place, stage in enumerate(self.stages)
        )

    @cached_property
    def resolved(self) -> tuple[tuple[str, Reference], ...]:
        """The external references that a unit resolves when it enters, taken apart."""
        parts = ((text, Reference.parse(text)) for text in self.external)
        return tuple((text, part) for text, part in parts if part.scope not in ("loop", "pack"))

    @cached_property
    def unit_rows(self) -> int:
        """Rows that decide together."""
        return self.spec.rows if self.spec.unit == "group" else 1

    @cached_property
    def units(self) -> int:
        """Decision units that a sample has here."""
        return self.spec.rows // self.unit_rows

    @property
    def last_head(self) -> Stage | None:
        """The head that answers at full depth, where the lane answers at all."""
        return self.final_head or self.heads.get(self.depth)


@dataclass(frozen=True)
class TaskPlan:
    """A task with the lanes that its answer needs, in order.

    lane: the answering one. row_tensors: raw tensors with a slice for each row. detokenise: turns
    what it generates into a text, where the bundle can.
    """

    spec: TaskSpec
    lane: LanePlan
    lanes: tuple[LanePlan, ...]
    row_tensors: frozenset[str]
    detokenise: Detokenise | None = None


@dataclass(frozen=True)
class Plan:
    """All lanes and tasks of a bundle."""

    manifest: Manifest
    lanes: tuple[LanePlan, ...]
    tasks: dict[str, TaskPlan]

    @property
    def rows(self) -> int:
        """Rows that a sample has at most in one lane."""
        return max(lane.spec.rows for lane in self.lanes)


def build_plan(
    manifest: Manifest,
    load: Load,
    packed: Collection[str] = (),
    detokenise: Detokenise | None = None,
) -> Plan:
    """Return the manifest's lanes in order, each segment loaded once by `load`.

    Tied lanes, and layers that answer through one head, share what was loaded.

    Args:
        manifest: of the bundle.
        load: loads a segment by its name.
        packed: the lanes that run on packed tokens.
        detokenise: turns the tokens that a loop answers into a text.
    """
    load = cache(load)
    specs = {lane.name: lane for lane in manifest.lanes}
    lanes = {
        name: _plan_lane(index, specs[name], manifest, load, name in packed)
        for index, name in enumerate(lane_order(manifest))
    }
    per_row = frozenset(name for name, spec in manifest.tensors.items() if spec.per == "row")
    tasks = {
        task.name: replace(_plan_task(task, lanes, per_row), detokenise=detokenise)
        for task in manifest.tasks
    }
    return Plan(manifest, tuple(lanes.values()), tasks)


def _plan_lane(
    index: int, spec: LaneSpec, manifest: Manifest, load: Load, wants_packed: bool
) -> LanePlan:
    packed = spec.packed if wants_packed else None
    layers = packed.layers if packed else spec.layers
    names = [*spec.setup, *([spec.entry] if spec.entry else []), *layers]
    first_layer = len(names) - spec.depth
    kept = _read_by_heads(spec, manifest) | set(spec.compare) | set(spec.compare.values())
    stages = []
    written = {state for state, own in spec.state.items() if own.role == "cache"}
    for place, name in enumerate(names):
        later = {
            ref for other in names[place + 1 :] for ref in manifest.segments[other].inputs.values()
        }
        reads = set(manifest.segments[name].inputs.values())
        dead = () if spec.loop else tuple(sorted(reads - later - kept - set(spec.state) - PACK))
        stage = _stage(name, manifest, load, max(0, place - first_layer + 1))
        new = tuple(state for _, state in stage.outputs if state not in written)
        stages.append(replace(stage, drops=dead, first_written=new))
        written |= set(new)
    heads = {layer: _stage(name, manifest, load, layer) for layer, name in spec.heads.items()}
    final = _stage(spec.final_head, manifest, load, spec.depth) if spec.final_head else None
    every = [*stages, *heads.values(), *([final] if final else [])]
    references = {text for stage in every for _, text in stage.inputs}
    external = tuple(sorted(text for text in references if Reference.parse(text).scope))
    loop_stage = len(spec.setup)
    propagate, contexts = (
        {layer: _stage(name, manifest, load, layer) for layer, name in names.items()}
        for names in (spec.propagate, spec.contexts)
    )
    return LanePlan(
        index,
        spec,
        tuple(stages),
        first_layer,
        loop_stage,
        heads,
        final,
        external,
        packed,
        propagate,
        contexts,
    )


def _read_by_heads(spec: LaneSpec, manifest: Manifest) -> set[str | None]:
    names = [*spec.heads.values(), *([spec.final_head] if spec.final_head else [])]
    return {text for name in names for text in manifest.segments[name].inputs.values()}


def _stage(name: str, manifest: Manifest, load: Load, layer: int) -> Stage:
    spec = manifest.segments[name]
    outputs = tuple((graph, Reference.parse(text).name) for graph, text in spec.outputs.items())
    return Stage(name, spec.kind, load(name), tuple(spec.inputs.items()), outputs, layer)


def _plan_task(task: TaskSpec, lanes: dict[str, LanePlan], per_row: frozenset[str]) -> TaskPlan:
    needed: set[str] = set()
    waiting = [task.lane]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(lanes[name].spec.join)
    ordered = tuple(lane for name, lane in lanes.items() if name in needed)
    return TaskPlan(task, lanes[task.lane], ordered, per_row)
