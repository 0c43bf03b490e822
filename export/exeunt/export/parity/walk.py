"""Walking a batch through the segments to full depth, whoever runs them."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.consistency import lane_order
from exeunt.engine.bundle.manifest import LaneSpec, Manifest, SegmentSpec
from exeunt.engine.bundle.tensors import Reference
from exeunt.engine.step.pack import packed_inputs, padded_rows
from exeunt.export.parity.loop import walk_loop

RunSegment = Callable[[str, dict[str, Array]], Mapping[str, Array]]


def walk(
    manifest: Manifest, tensors: Mapping[str, Array], run: RunSegment, *, packed: bool = False
) -> Iterator[tuple[str, Mapping[str, Array]]]:
    """Yield each segment's name and outputs, in the order that rows meet them.

    Args:
        manifest: its lanes are walked once, each head after its layer, those with a loop for a few
            steps; these have one row a sample.
        tensors: raw tensors by name, the batch axis first.
        run: runs a segment on tensors by its graph's names.
        packed: walk the packed layers of the lanes that have some; their outputs are yielded as
            padded rows.

    Yields:
        Outputs with the batch axis first: of a lane with several rows a sample, [batch, rows, ...].
    """
    states: dict[str, dict[str, Array]] = {"input": dict(tensors)}
    for name in lane_order(manifest):
        lane = manifest.lane(name)
        if lane.loop:
            assert lane.rows == 1, "a loop has one row a sample"
            yield from walk_loop(manifest, lane, states, run)
            continue
        state: dict[str, Array] = {}
        states[name] = state
        for segment in _steps(lane, packed):
            spec = manifest.segments[segment]
            if packed and lane.packed and segment in lane.packed.layers:
                outputs = _run_packed(segment, spec, state, state[lane.packed.mask], run)
                yield segment, outputs
                state |= {text: outputs[port] for port, text in spec.outputs.items()}
                continue
            outputs = _run_rows(manifest, lane, segment, states, run)
            yield segment, outputs
            if spec.kind != "head":
                state |= {ref.name: outputs[port] for port, ref in _references(spec.outputs)}


def _run_rows(
    manifest: Manifest,
    lane: LaneSpec,
    name: str,
    states: Mapping[str, Mapping[str, Array]],
    run: RunSegment,
) -> Mapping[str, Array]:
    """Run a segment on all rows of the lane, side by side; a group's head on groups."""
    spec = manifest.segments[name]
    together = spec.kind == "head" and lane.unit == "group" and lane.rows > 1
    found = {}
    for port, reference in _references(spec.inputs):
        array = _rows(manifest, lane, reference, states)
        found[port] = array if together or lane.rows == 1 else _side_by_side(array)
    outputs = run(name, found)
    if together or lane.rows == 1:
        return outputs
    return {port: array.reshape(-1, lane.rows, *array.shape[1:]) for port, array in outputs.items()}


def _rows(
    manifest: Manifest,
    lane: LaneSpec,
    reference: Reference,
    states: Mapping[str, Mapping[str, Array]],
) -> Array:
    """Return a tensor as the lane's rows see it: [batch, rows, ...], or [batch, ...] of one row.

    As many rows on both sides meet one to one; one row serves all; a single row sees all of them.
    """
    scope, name = reference
    array = states[scope or lane.name][name]
    if not scope or lane.rows == 1:
        return array
    if scope == "input":
        rows = lane.rows if manifest.tensors[name].per == "row" else 1
    else:
        rows = manifest.lane(scope).rows
    if rows == 1:
        return np.repeat(array[:, np.newaxis], lane.rows, axis=1)
    return array


def _side_by_side(array: Array) -> Array:
    return np.ascontiguousarray(array.reshape(-1, *array.shape[2:]))


def _run_packed(
    name: str, spec: SegmentSpec, state: Mapping[str, Array], mask: Array, run: RunSegment
) -> Mapping[str, Array]:
    kept, tensors = packed_inputs(spec.inputs.values(), lambda text: state[text], mask)
    outputs = run(name, {port: tensors[text] for port, text in spec.inputs.items()})
    return {port: padded_rows(tokens, kept) for port, tokens in outputs.items()}


def _steps(lane: LaneSpec, packed: bool) -> Iterator[str]:
    yield from lane.setup
    if lane.entry:
        yield lane.entry
    layers = lane.packed.layers if packed and lane.packed else lane.layers
    for layer, segment in enumerate(layers, 1):
        yield segment
        if layer in lane.heads:
            yield lane.heads[layer]
    if lane.final_head:
        yield lane.final_head


def _references(ports: Mapping[str, str]) -> Iterator[tuple[str, Reference]]:
    return ((port, Reference.parse(text)) for port, text in ports.items())
