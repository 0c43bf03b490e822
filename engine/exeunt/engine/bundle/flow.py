"""Checks of the data's flow through a lane: what a segment reads has been written before."""

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from exeunt.engine.bundle.tensors import Reference

if TYPE_CHECKING:
    from exeunt.engine.bundle.manifest import LaneSpec, Manifest


def check_flow(manifest: "Manifest", lane: "LaneSpec") -> None:
    """Raise ValueError where a row of the lane would meet a tensor that is not there."""
    written = {name for name, spec in lane.state.items() if spec.role == "cache"}
    for name in [*lane.setup, *([lane.entry] if lane.entry else [])]:
        _check_reads(manifest, lane, name, written)
        written |= set(manifest.segments[name].outputs.values())
    entered = frozenset(written)
    heads = {layer: [name] for layer, name in lane.heads.items()}
    if lane.final_head:
        heads.setdefault(lane.depth, []).append(lane.final_head)
    for name in heads.get(0, ()):
        _check_reads(manifest, lane, name, written)
    for layer, name in enumerate(lane.layers, 1):
        if layer in lane.contexts:
            _check_reads(manifest, lane, lane.contexts[layer], entered)
            written |= set(manifest.segments[lane.contexts[layer]].outputs.values())
        _check_reads(manifest, lane, name, written)
        _check_compared(manifest, lane, name)
        written |= set(manifest.segments[name].outputs.values())
        for other in heads.get(layer, ()):
            _check_reads(manifest, lane, other, written)
    for text in sorted({text for name in lane.segments() for text in _reads(manifest, name)}):
        _check_rows(manifest, lane, text)


def _reads(manifest: "Manifest", segment: str) -> list[str]:
    return list(manifest.segments[segment].inputs.values())


def _check_reads(
    manifest: "Manifest", lane: "LaneSpec", name: str, written: AbstractSet[str]
) -> None:
    own = {text for text in _reads(manifest, name) if not Reference.parse(text).scope}
    if missing := sorted(own - written):
        raise ValueError(
            f"segment {name!r} in lane {lane.name!r} reads {missing} before anything has written"
            " it: let a `setup`, the `entry` or an earlier layer write it"
        )


def _check_compared(manifest: "Manifest", lane: "LaneSpec", name: str) -> None:
    segment = manifest.segments[name]
    for state in lane.compare:
        if state not in segment.inputs.values() or state not in segment.outputs.values():
            raise ValueError(
                f"lane {lane.name!r} compares {state!r}, which layer {name!r} does not both read"
                " and write"
            )


def _check_rows(manifest: "Manifest", lane: "LaneSpec", text: str) -> None:
    """Rows meet rows one to one, or one of a side meets all of the other."""
    scope, name = Reference.parse(text)
    if scope == "input" and manifest.tensors[name].per == "row":
        rows = max(other.rows for other in manifest.lanes)
    elif scope in lane.join:
        rows = manifest.lane(scope).rows
    else:
        return
    if rows not in (1, lane.rows) and lane.rows != 1:
        raise ValueError(
            f"lane {lane.name!r} has {lane.rows} rows and reads {text!r} of {rows}: expected as"
            " many on both sides, or one on either"
        )
