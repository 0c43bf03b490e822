"""What an engine is made of, before it knows an exit policy: plan, memory, doors."""

from collections.abc import Sequence
from dataclasses import dataclass

from exeunt.engine.backends.base import Array, Backend, LoadedSegment
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.capacity import check_sizes
from exeunt.engine.config import EngineConfig, Layout
from exeunt.engine.decoding.door import GenerationDoor
from exeunt.engine.lanes.plan import Plan, build_plan
from exeunt.engine.lanes.residents import Residents
from exeunt.engine.lanes.slabs import Slabs
from exeunt.engine.lanes.state_cache import StateCache
from exeunt.engine.layouts import choose_layouts
from exeunt.engine.reading import Reader
from exeunt.engine.step.runner import Runners
from exeunt.engine.warm_up import warm_up_samples


@dataclass(frozen=True)
class Parts:
    """The parts of an engine.

    blank: raw tensors of one sample of each size, ascending; none where sizes are not known.
    layouts: of each lane's batches. streams: the memory of each.
    """

    blank: Sequence[dict[str, Array]]
    layouts: dict[str, Layout]
    plan: Plan
    reader: Reader
    slabs: Slabs
    residents: Residents
    state_cache: StateCache
    streams: Sequence[Runners]


def make_parts(bundle: Bundle, config: EngineConfig, backend: Backend) -> Parts:
    """Load a bundle's segments and make what rows are kept and run in.

    Raises:
        BundleError: a segment cannot be loaded.
        ConfigError: a size does not fit the bundle.
    """
    manifest = bundle.manifest

    def load(name: str) -> LoadedSegment:
        return backend.load(manifest, bundle.root, name)

    blank = warm_up_samples(manifest, config.sizes)
    layouts = choose_layouts(manifest, config, load, blank)
    packed = [lane for lane, layout in layouts.items() if layout == "packed"]
    resident = max(1, config.resident_rows // max(lane.rows for lane in manifest.lanes))
    door = GenerationDoor(bundle, config.limits, resident)
    plan = build_plan(manifest, load, packed, door.detokenise)
    check_sizes(config, plan)
    return Parts(
        blank=blank,
        layouts=layouts,
        plan=plan,
        reader=Reader(bundle, plan, config.limits, door),
        slabs=Slabs(resident),
        residents=Residents(resident),
        state_cache=StateCache(plan, config.state_cache_bytes),
        streams=[Runners(config.max_batch_rows) for _ in range(config.streams)],
    )
