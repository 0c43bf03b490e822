"""Checks of a loop's caches: every layer keeps its own, and all of them alike."""

from typing import TYPE_CHECKING

from exeunt.engine.bundle.tensors import CACHED, Reference, StateSpec

if TYPE_CHECKING:
    from exeunt.engine.bundle.manifest import CacheSpec, LaneSpec, Manifest


def check_caches(manifest: "Manifest", lane: "LaneSpec") -> None:
    """Raise ValueError where a lane's caches could not be kept from step to step, or filled."""
    states = {name: spec for name, spec in lane.state.items() if spec.role == "cache"}
    if not (states or lane.caches or lane.propagate or lane.contexts):
        return
    where = f"lane {lane.name!r}"
    if lane.loop is None:
        raise ValueError(f"{where} has caches {sorted(states)} but no `loop` to keep them for")
    if len(lane.caches) != lane.depth:
        raise ValueError(
            f"{where} has {lane.depth} layers and {len(lane.caches)} records in `caches`: each"
            " layer needs one, which names what it appends"
        )
    if lane.packed is not None:
        raise ValueError(f"{where} keeps caches, which packed layers cannot: remove `packed`")
    if lane.rows != 1:
        raise ValueError(f"{where} keeps caches for {lane.rows} rows a sample: expected one row")
    named = [name for cache in lane.caches for name in cache.appended]
    if sorted(named) != sorted(states):
        raise ValueError(
            f"{where}: `caches` names {sorted(named)}, but its states of role cache are"
            f" {sorted(states)}: each belongs to one layer"
        )
    for name, spec in states.items():
        _check_shape(where, name, spec, lane.loop.max_steps)
    _check_alike(lane, "appended", [cache.appended for cache in lane.caches])
    _check_alike(lane, "context", [cache.context for cache in lane.caches])
    for segment, cache in zip(lane.layers, lane.caches, strict=True):
        _check_layer(manifest, where, segment, cache, states)
    for layer, segment in lane.contexts.items():
        _check_context(manifest, lane, layer, segment)
    for layer, segment in lane.propagate.items():
        _check_propagate(manifest, lane, layer, segment)


def check_cached_readers(manifest: "Manifest", lane: "LaneSpec") -> None:
    """Raise ValueError where another segment than a layer with caches reads `loop.cached`."""
    for name in lane.every_segment():
        reads = CACHED in manifest.segments[name].inputs.values()
        if reads and not (lane.caches and manifest.segments[name].kind == "layer"):
            raise ValueError(
                f"segment {name!r} in lane {lane.name!r} reads {CACHED!r}, which only a layer with"
                " caches has"
            )


def _check_shape(where: str, name: str, spec: StateSpec, steps: int) -> None:
    if any(isinstance(dim, str) for dim in spec.shape) or len(spec.shape) < 2:
        raise ValueError(
            f"cache {name!r} of {where} has the shape {list(spec.shape)}: expected numbers, the"
            " steps first, then what one token appends"
        )
    if spec.shape[0] != steps:
        raise ValueError(
            f"cache {name!r} of {where} holds {spec.shape[0]} tokens, but the loop has"
            f" {steps} steps: let both be alike"
        )


def _check_alike(lane: "LaneSpec", what: str, layers: list[tuple[str, ...]]) -> None:
    """Layers keep the same things, so that one layer's may stand in for another's."""
    for names in layers:
        for name in names:
            if name not in lane.state:
                raise ValueError(f"lane {lane.name!r}: {what} {name!r} is no state of it")
            if what == "context" and lane.state[name].role != "constant":
                raise ValueError(f"lane {lane.name!r}: context {name!r} is no constant")
    kinds = {
        tuple((lane.state[name].dtype, lane.state[name].shape) for name in names)
        for names in layers
    }
    if len(kinds) > 1:
        raise ValueError(
            f"lane {lane.name!r}: the layers' {what} states differ in number, dtype or shape, but"
            " a skipped layer may have to take over another's"
        )


def _check_layer(
    manifest: "Manifest", where: str, name: str, cache: "CacheSpec", states: dict[str, StateSpec]
) -> None:
    segment = manifest.segments[name]
    written = {text for text in segment.outputs.values() if text in states}
    if written != set(cache.appended):
        raise ValueError(
            f"layer {name!r} in {where} writes the caches {sorted(written)}, but `caches` says that"
            f" it appends {sorted(cache.appended)}"
        )
    read = {text for text in segment.inputs.values() if text in states}
    if read - set(cache.appended):
        raise ValueError(f"layer {name!r} in {where} reads another layer's caches {sorted(read)}")


def _check_context(manifest: "Manifest", lane: "LaneSpec", layer: int, name: str) -> None:
    where, segment = f"segment {name!r} in lane {lane.name!r}", manifest.segments[name]
    if not 1 <= layer <= lane.depth:
        raise ValueError(
            f"{where} makes the context of layer {layer}: expected a layer from 1 to {lane.depth}"
        )
    every = {text for cache in lane.caches for text in cache.context}
    for text in segment.inputs.values():
        scope = Reference.parse(text).scope
        if scope or lane.state[text].role != "constant" or text in every:
            raise ValueError(
                f"{where} reads {text!r}: expected the lane's constants that its setup writes"
            )
    if set(segment.outputs.values()) != set(lane.caches[layer - 1].context):
        raise ValueError(
            f"{where} writes {sorted(segment.outputs.values())}: expected what `caches` names as"
            f" the context of layer {layer}, {sorted(lane.caches[layer - 1].context)}"
        )


def _check_propagate(manifest: "Manifest", lane: "LaneSpec", layer: int, name: str) -> None:
    where, segment = f"segment {name!r} in lane {lane.name!r}", manifest.segments[name]
    if not 2 <= layer <= lane.depth:
        raise ValueError(
            f"{where} fills the caches of layer {layer}: expected one that can be skipped, 2 to"
            f" {lane.depth}"
        )
    for text in segment.inputs.values():
        if Reference.parse(text).scope or lane.state[text].role != "carried":
            raise ValueError(f"{where} reads {text!r}: expected the lane's carried states alone")
    if set(segment.outputs.values()) != set(lane.caches[layer - 1].appended):
        raise ValueError(
            f"{where} writes {sorted(segment.outputs.values())}: expected what layer {layer}"
            f" appends, {sorted(lane.caches[layer - 1].appended)}"
        )
