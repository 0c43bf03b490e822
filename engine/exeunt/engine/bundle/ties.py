"""Checks of tied lanes: lanes that name the same segments must mean the same by their states."""

from typing import TYPE_CHECKING

from exeunt.engine.bundle.tensors import Reference, StateSpec

if TYPE_CHECKING:
    from exeunt.engine.bundle.manifest import LaneSpec, Manifest


def check_ties(manifest: "Manifest") -> None:
    """Raise ValueError where one segment serves two lanes whose states do not fit it alike.

    Sizes with names may differ: an image has other tokens than a text.
    """
    owners: dict[str, LaneSpec] = {}
    for lane in manifest.lanes:
        for name in dict.fromkeys(lane.every_segment()):
            first = owners.setdefault(name, lane)
            if first is not lane:
                _check_tie(manifest, name, first, lane)


def _check_tie(manifest: "Manifest", name: str, first: "LaneSpec", second: "LaneSpec") -> None:
    segment = manifest.segments[name]
    for text in (*segment.inputs.values(), *segment.outputs.values()):
        if Reference.parse(text).scope:
            continue
        if not _fit(first.state[text], second.state[text]):
            raise ValueError(
                f"lanes {first.name!r} and {second.name!r} are tied by segment {name!r}, but their"
                f" state {text!r} differs: {_shown(first.state[text])} and"
                f" {_shown(second.state[text])}"
            )


def _fit(one: StateSpec, other: StateSpec) -> bool:
    """Return whether a graph that takes the one takes the other: tokens may differ, widths not."""
    if (one.role, one.dtype, len(one.shape)) != (other.role, other.dtype, len(other.shape)):
        return False
    if one.role != "carried" or len(one.shape) < 2:
        return True
    return one.shape[-1] == other.shape[-1]


def _shown(spec: StateSpec) -> str:
    return f"{spec.role} {spec.dtype} {list(spec.shape)}"
