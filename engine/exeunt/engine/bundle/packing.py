"""Checks of a lane's packed layers: tokens of rows that differ in length must be all they need."""

from typing import TYPE_CHECKING

from exeunt.engine.bundle.tensors import Reference

if TYPE_CHECKING:
    from exeunt.engine.bundle.manifest import LaneSpec, Manifest, PackedSpec


def check_packed(manifest: "Manifest", lane: "LaneSpec", packed: "PackedSpec") -> None:
    """Raise ValueError where the lane cannot be walked on packed tokens."""
    where = f"lane {lane.name!r} is packed"
    if len(packed.layers) != lane.depth:
        raise ValueError(
            f"{where} in {len(packed.layers)} layers, but has {lane.depth}: name one for each"
        )
    joined = [other.name for other in manifest.lanes if lane.name in other.join]
    if lane.rows > 1 or lane.loop or lane.join or joined or lane.setup or not lane.entry:
        raise ValueError(
            f"{where}, which needs rows that walk alone: a single row a sample, an `entry`, no"
            " `setup`, no loop, and no lane that it joins or that joins it"
        )
    mask = lane.state.get(packed.mask)
    if mask is None or mask.role != "constant" or len(mask.shape) != 1:
        raise ValueError(f"{where} by {packed.mask!r}: expected a constant of shape [tokens]")
    tokens = mask.shape[0]
    entered = set(manifest.segments[lane.entry].outputs.values())
    if packed.mask not in entered:
        raise ValueError(f"{where} by {packed.mask!r}, which its entry does not write")
    for name in packed.layers:
        segment = manifest.segments[name]
        own = {text for text in segment.inputs.values() if Reference.parse(text).scope != "pack"}
        for state in own | set(segment.outputs.values()):
            _check_state(lane, name, state, entered, tokens)
    if len(lane.compare) > 1:
        raise ValueError(f"{where} and compares {sorted(lane.compare)}: expected one state")
    layers = [manifest.segments[name] for name in packed.layers]
    for state in lane.compare:
        if not all(
            state in one.inputs.values() and state in one.outputs.values() for one in layers
        ):
            raise ValueError(f"{where} and compares {state!r}, which a layer does not pass on")
    carried = set.intersection(*(set(one.outputs.values()) for one in layers))
    for name in (*lane.heads.values(), *([lane.final_head] if lane.final_head else [])):
        reads = set(manifest.segments[name].inputs.values())
        if strange := sorted(reads - carried - {packed.mask}):
            raise ValueError(
                f"{where}, but head {name!r} reads {strange}: expected what every packed layer"
                f" writes, or {packed.mask!r}"
            )


def _check_state(
    lane: "LaneSpec", segment: str, state: str, entered: set[str], tokens: int | str
) -> None:
    spec = lane.state.get(state)
    shape = spec.shape if spec else ()
    fixed = all(isinstance(size, int) for size in shape[1:])
    if spec is None or spec.role != "carried" or shape[:1] != (tokens,) or not fixed:
        raise ValueError(
            f"packed layer {segment!r} passes {state!r} on: expected a carried state of shape"
            f" [{tokens}, numbers ...]"
        )
    if state not in entered:
        raise ValueError(f"packed layer {segment!r} reads {state!r}, which no entry writes")
