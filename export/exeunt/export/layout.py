"""Layouts of a bundle's layers: padded rows, packed tokens, or both."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from exeunt.engine.backends import Backend
from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.config import EngineConfig
from exeunt.engine.layouts import quicker_layout
from exeunt.engine.warm_up import warm_up_samples
from exeunt.export.errors import ExportError
from exeunt.export.plan import BundlePlan

ExportLayout = Literal["auto", "padded", "packed", "both"]


def keep_layout(plan: BundlePlan, layout: ExportLayout, *, int8: bool = False) -> BundlePlan:
    """Return the plan with the layers of a layout alone; with both under `auto` and `both`.

    Args:
        plan: of a family, with every layout that it knows.
        layout: what the bundle is to have.
        int8: whether the layers are to be quantised, which only padded ones can be.

    Raises:
        ExportError: the family has no packed layers, or they cannot be quantised.
    """
    if layout in ("packed", "both"):
        if int8:
            raise ExportError(
                f"--layout {layout} has packed layers, which cannot be int8: export with --layout"
                " padded, or with --precision fp32"
            )
        if not any(lane.packed for lane in plan.lanes):
            raise ExportError(
                f"the family {plan.family!r} has no packed layers: export it with --layout padded"
            )
    if layout == "padded" or int8:
        return _without(plan, [_padded(lane) for lane in plan.lanes])
    if layout == "packed":
        return _without(plan, [_packed(lane) for lane in plan.lanes])
    return plan


def keep_quicker(plan: BundlePlan, bundle: Bundle, backend: Backend) -> BundlePlan:
    """Return the plan with the layout of each lane that is quicker over the bundle's own sizes.

    Args:
        plan: traced.
        bundle: its graphs.
        backend: runs them.

    Returns:
        The plan as it is where a lane has one layout, or where no sizes are known to measure with.
    """
    samples = warm_up_samples(bundle.manifest, {})
    rows = EngineConfig().max_batch_rows

    def chosen(lane: LaneSpec) -> LaneSpec:
        if lane.packed is None or not samples:
            return lane
        quicker = quicker_layout(
            bundle.manifest,
            lane,
            lambda name: backend.load(bundle.manifest, bundle.root, name),
            samples,
            rows,
        )
        return _padded(lane) if quicker == "padded" else _packed(lane)

    return _without(plan, [chosen(lane) for lane in plan.lanes])


def _padded(lane: LaneSpec) -> LaneSpec:
    return lane.model_copy(update={"packed": None})


def _packed(lane: LaneSpec) -> LaneSpec:
    return lane.model_copy(update={"layers": lane.packed.layers}) if lane.packed else lane


def _without(plan: BundlePlan, lanes: Sequence[LaneSpec]) -> BundlePlan:
    """Return the plan with these lanes, without the segments that none of them names."""
    used = {name for lane in lanes for name in lane.every_segment()}
    segments = tuple(segment for segment in plan.segments if segment.name in used)
    return replace(plan, lanes=tuple(lanes), segments=segments)
