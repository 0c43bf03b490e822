"""Walking the first steps of a loop, with the same tokens for whoever walks it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.manifest import LaneSpec, LoopSpec, Manifest
from exeunt.engine.bundle.tensors import Reference, numpy_dtype

if TYPE_CHECKING:
    from exeunt.export.parity.walk import RunSegment

STEPS = 3  # an empty cache, one with a token, and one with several

States = dict[str, dict[str, Array]]
Step = tuple[str, Mapping[str, Array]]


def loop_tokens(loop: LoopSpec, classes: int) -> list[int]:
    """Return the tokens of the steps that parity walks: the start, then fixed ones.

    Chosen ones would differ where two logits are nearly equal.
    """
    steps = min(STEPS, loop.max_steps)
    return [loop.start, *((classes - step) % classes for step in range(1, steps))]


def walk_loop(
    manifest: Manifest, lane: LaneSpec, states: States, run: "RunSegment"
) -> Iterator[Step]:
    """Yield each segment's name and outputs over the first steps of a lane with a loop.

    The segments that fill the caches of skipped layers come last, each once, and fill nothing.

    Args:
        manifest: of the lane.
        lane: with a loop, and one row a sample.
        states: of the raw tensors and the lanes before; the lane's own are added.
        run: runs a segment on tensors by its graph's names.
    """
    assert lane.loop is not None, "only for lanes that loop"
    assert lane.classes is not None, "a loop has a head"
    state: dict[str, Array] = {}
    states[lane.name] = state
    for name in lane.setup:
        yield from _run(manifest, name, state, states, run)
    batch = next(iter((state or states["input"]).values())).shape[0]
    state |= {
        name: np.zeros((batch, *spec.shape), numpy_dtype(spec.dtype))
        for name, spec in lane.state.items()
        if spec.role == "cache"
    }
    tokens = loop_tokens(lane.loop, lane.classes)
    for step in range(len(tokens)):
        states["loop"] = _loop_tensors(lane.loop, tokens[: step + 1], batch)
        for name in [lane.entry] if lane.entry else []:
            yield from _run(manifest, name, state, states, run)
        for layer, name in enumerate(lane.layers, 1):
            if step == 0 and layer in lane.contexts:
                yield from _run(manifest, lane.contexts[layer], state, states, run)
            yield from _run(manifest, name, state, states, run, step)
            if layer in lane.heads:
                yield from _run(manifest, lane.heads[layer], state, states, run)
        if lane.final_head:
            yield from _run(manifest, lane.final_head, state, states, run)
    for name in lane.propagate.values():
        yield from _run(manifest, name, state, states, run)


def _loop_tensors(loop: LoopSpec, tokens: list[int], batch: int) -> dict[str, Array]:
    step = len(tokens) - 1
    row = np.full(loop.max_steps + 1, loop.pad, dtype=np.int64)
    row[: len(tokens)] = tokens
    counted = np.full(batch, step, dtype=np.int64)
    return {
        "tokens": np.tile(row, (batch, 1)),
        "token": np.full((batch, 1), tokens[-1], dtype=np.int64),
        "step": counted,
        "cached": counted.copy(),
    }


def _run(
    manifest: Manifest,
    name: str,
    state: dict[str, Array],
    states: States,
    run: "RunSegment",
    step: int = 0,
) -> Iterator[Step]:
    """Yield the segment's outputs and keep them; a layer's own tokens go to the step's place."""
    spec = manifest.segments[name]
    found = {}
    for port, text in spec.inputs.items():
        scope, tensor = Reference.parse(text)
        found[port] = (states[scope] if scope else state)[tensor]
    outputs = run(name, found)
    yield name, outputs
    if spec.kind in ("head", "propagate_kv"):
        return
    for port, text in spec.outputs.items():
        cache = state.get(text)
        if spec.kind == "layer" and cache is not None and cache.ndim > outputs[port].ndim:
            cache[:, step] = outputs[port]
        else:
            state[text] = outputs[port]
