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
    texts = dict.fromkeys((*segment.inputs.values(), *segment.outputs.values()))
    states = [text for text in texts if not Reference.parse(text).scope]
    tokens = _token_sizes([(first.state[text], second.state[text]) for text in states])
    for text in states:
        if not _fit(first.state[text], second.state[text], tokens):
            raise ValueError(
                f"lanes {first.name!r} and {second.name!r} are tied by segment {name!r}, but their"
                f" state {text!r} differs: {_shown(first.state[text])} and"
                f" {_shown(second.state[text])}"
            )


def _token_sizes(pairs: list[tuple[StateSpec, StateSpec]]) -> set[tuple[int | str, int | str]]:
    """Return the sizes that differ because the lanes' rows have other tokens: not the widths."""
    return {
        sizes
        for one, other in pairs
        if one.role == other.role == "carried" and len(one.shape) == len(other.shape)
        for sizes in zip(one.shape[:-1], other.shape[:-1], strict=True)
    }


def _fit(one: StateSpec, other: StateSpec, tokens: set[tuple[int | str, int | str]]) -> bool:
    """Return whether a graph that takes the one takes the other: tokens may differ, widths not."""
    if (one.role, one.dtype, len(one.shape)) != (other.role, other.dtype, len(other.shape)):
        return False
    pairs = zip(one.shape, other.shape, strict=True)
    if one.role == "carried":
        return len(one.shape) < 2 or one.shape[-1] == other.shape[-1]
    return all(sizes[0] == sizes[1] or sizes in tokens for sizes in pairs)


def _shown(spec: StateSpec) -> str:
    return f"{spec.role} {spec.dtype} {list(spec.shape)}"
