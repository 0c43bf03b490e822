"""Gathering the tensors of units into a batch, and handing the outputs back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.backends.base import Tensors
from exeunt.engine.lanes.plan import Stage
from exeunt.engine.lanes.unit import Unit
from exeunt.engine.step.pack import packed_inputs, padded_rows

Array = NDArray[Any]


def gather(stage: Stage, units: Sequence[Unit]) -> dict[str, Array]:
    """Return the stage's inputs of all units by graph name, each contiguous [rows, ...]."""
    return {graph: stack(units, text) for graph, text in stage.inputs}


def stack(units: Sequence[Unit], text: str) -> Array:
    """Return one tensor of all units, contiguous, their rows side by side on the first axis."""
    if len(units) == 1:
        return np.ascontiguousarray(units[0].tensors[text])
    # What rows share is broadcast, and NumPy would keep its strides in the result.
    return np.ascontiguousarray(np.concatenate([unit.tensors[text] for unit in units]))


def scatter(stage: Stage, units: Sequence[Unit], outputs: Tensors) -> None:
    """Give each unit its rows of the outputs, as views; a first step's token is cached."""
    rows, states = units[0].rows, units[0].lane.spec.state
    for graph, state in stage.outputs:
        output = outputs[graph]
        if states[state].role == "cache":
            for place, unit in enumerate(units):
                unit.tensors[state][0, 0] = output[place]
            continue
        for place, unit in enumerate(units):
            unit.tensors[state] = output[place * rows : (place + 1) * rows]
    for text in stage.drops:
        for unit in units:
            del unit.tensors[text]


def run_packed(stage: Stage, units: Sequence[Unit], mask: str) -> None:
    """Run a packed layer on units whose states are padded rows, and leave them so.

    Args:
        stage: the layer.
        units: with states [1, T, ...] of one T.
        mask: the state that says which tokens are valid.
    """
    references = [text for _, text in stage.inputs]
    kept, tensors = packed_inputs(references, lambda text: stack(units, text), stack(units, mask))
    outputs = stage.segment.run({graph: tensors[text] for graph, text in stage.inputs})
    for graph, state in stage.outputs:
        rows = padded_rows(outputs[graph], kept)
        for place, unit in enumerate(units):
            unit.tensors[state] = rows[place : place + 1]


def run_head(head: Stage, units: Sequence[Unit]) -> NDArray[np.float32]:
    """Return the logits [U, C] float32 of the units; a group's head sees [U, rows, ...]."""
    inputs = gather(head, units)
    rows = units[0].rows
    if rows > 1:
        inputs = {
            name: array.reshape(len(units), rows, *array.shape[1:])
            for name, array in inputs.items()
        }
    outputs = head.segment.run(inputs)
    logits = next(outputs[graph] for graph, name in head.outputs if name == "logits")
    return logits.astype(np.float32, copy=False)


def hidden_pair(
    compare: dict[str, str | None], before: Tensors, units: Sequence[Unit]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return the compared states before and after a layer and their valid tokens, by unit.

    Args:
        compare: carried state -> mask of its valid tokens, or None.
        before: by state, [rows, T, D], from before the layer ran.
        units: hold the states after it.

    Returns:
        Two [U, T', D] and [U, T'] (None where every token is valid), T' running over a unit's rows
        and over the compared states.
    """
    count = len(units)

    def tokens(array: Array) -> Array:
        return array.reshape(count, -1, array.shape[-1])

    old = [tokens(before[state]) for state in compare]
    new = [tokens(stack(units, state)) for state in compare]
    if all(mask is None for mask in compare.values()):
        valid = None
    else:
        masks = [
            np.ones(part.shape[:2], dtype=np.bool_)
            if mask is None
            else stack(units, mask).reshape(count, -1) > 0
            for part, mask in zip(old, compare.values(), strict=True)
        ]
        valid = np.concatenate(masks, axis=1)
    if len(old) == 1:
        return old[0], new[0], valid
    return np.concatenate(old, axis=1), np.concatenate(new, axis=1), valid
