"""Walking a batch through the segments to full depth, whoever runs them."""

from collections.abc import Callable, Iterator, Mapping

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
            steps; lanes with several rows a sample are not for this function.
        tensors: raw tensors by name, the batch axis first.
        run: runs a segment on tensors by its graph's names.
        packed: walk the packed layers of the lanes that have some; their outputs are yielded as
            padded rows.
    """
    states: dict[str, dict[str, Array]] = {"input": dict(tensors)}
    for name in lane_order(manifest):
        lane = manifest.lane(name)
        assert lane.rows == 1, "lanes with groups need a walk of their own"
        if lane.loop:
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
            found = {
                port: (states[reference.scope] if reference.scope else state)[reference.name]
                for port, reference in _references(spec.inputs)
            }
            outputs = run(segment, found)
            yield segment, outputs
            if spec.kind != "head":
                state |= {ref.name: outputs[port] for port, ref in _references(spec.outputs)}


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
