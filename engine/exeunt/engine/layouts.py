"""Layouts: whether a lane's layers run on padded rows or packed tokens, chosen by measurement."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from exeunt.engine.backends.base import Array, LoadedSegment
from exeunt.engine.bundle.manifest import LaneSpec, Manifest, PackedSpec
from exeunt.engine.bundle.tensors import Reference
from exeunt.engine.config import EngineConfig, Layout
from exeunt.engine.errors import ConfigError
from exeunt.engine.step.pack import pack_rows, valid_tokens

Load = Callable[[str], LoadedSegment]
Sample = Mapping[str, Array]  # raw tensors without a sample axis
Layouts = dict[str, Layout]  # by lane

REPEATS = 5
WORTHWHILE = 0.97  # of the padded rows' time: less is not worth the engine's own work on indices


def choose_layouts(
    manifest: Manifest, config: EngineConfig, load: Load, samples: Sequence[Sample]
) -> Layouts:
    """Return each lane's layout: the configured one, or the quicker one where the bundle has both.

    Args:
        manifest: of the bundle.
        config: `layout`; under `auto` nothing is measured when the engine is not to be warmed, or
            has to be deterministic: rows are padded then, where the bundle has such layers.
        load: loads a segment by its name.
        samples: blank ones, one of each size; without any nothing is measured.

    Raises:
        ConfigError: the bundle lacks the configured layout, or packed tokens are not allowed.
    """
    if config.layout == "packed" and not any(lane.packed for lane in manifest.lanes):
        raise ConfigError(
            f"layout is packed, but bundle {manifest.name!r} has no packed layers: set layout to"
            " auto, or export it with --layout both"
        )
    layouts = {lane.name: _layout(manifest, lane, config, load, samples) for lane in manifest.lanes}
    for lane in manifest.lanes:
        if layouts[lane.name] == "packed" and config.deterministic:
            _refuse_unproven(manifest, lane)
    return layouts


def _layout(
    manifest: Manifest,
    lane: LaneSpec,
    config: EngineConfig,
    load: Load,
    samples: Sequence[Sample],
) -> Layout:
    if lane.packed is None:
        return "padded"
    if lane.layers == lane.packed.layers:
        if config.layout == "padded":
            raise ConfigError(
                f"layout is padded, but lane {lane.name!r} has packed layers alone: set layout to"
                " auto, or export the bundle with --layout both"
            )
        return "packed"
    if config.layout != "auto":
        return config.layout
    if config.deterministic or not config.warm_up or not samples:
        return "padded"
    return quicker_layout(manifest, lane, load, samples, config.max_batch_rows)


def _refuse_unproven(manifest: Manifest, lane: LaneSpec) -> None:
    if lane.packed and not lane.packed.batch_invariant:
        raise ConfigError(
            f"deterministic is set, but the packed layers of lane {lane.name!r} of bundle"
            f" {manifest.name!r} were not found bit-equal in every batch: set layout to padded, or"
            " deterministic to false"
        )


def quicker_layout(
    manifest: Manifest, lane: LaneSpec, load: Load, samples: Sequence[Sample], max_rows: int
) -> Layout:
    """Return the layout in which the lane's middle layer takes less time for rows of these sizes.

    As many rows as a batch holds, spread evenly over the sizes: on packed tokens they are one
    batch, padded those of each size are one of their own.

    Args:
        manifest: of the bundle.
        lane: with both layouts.
        load: loads a segment by its name.
        samples: one of each size, at least one.
        max_rows: rows of a batch.
    """
    packed = lane.packed
    assert packed is not None, "only such a lane has a choice"
    assert lane.entry is not None, "a packed lane has an entry"
    taken = min(len(samples), max_rows)
    chosen = [samples[(place + 1) * len(samples) // taken - 1] for place in range(taken)]
    rows = max(1, max_rows // taken)
    batches = [_entered(manifest, lane.entry, load, sample, rows) for sample in chosen]
    middle = lane.depth // 2
    padded = [_call(manifest, lane.layers[middle], load, batch) for batch in batches]
    together = _call(manifest, packed.layers[middle], load, _packed(packed, batches))
    padded_s, packed_s = [], []
    for repeat in range(REPEATS + 1):
        spent_s = [_timed(call) for call in padded]
        own_s = _timed(together)
        if repeat:
            padded_s.append(sum(spent_s))
            packed_s.append(own_s)
    quicker = statistics.median(packed_s) < WORTHWHILE * statistics.median(padded_s)
    return "packed" if quicker else "padded"


def _entered(
    manifest: Manifest, entry: str, load: Load, sample: Sample, rows: int
) -> dict[str, Array]:
    """Return the states that the entry writes for so many equal rows, by name: [rows, ...]."""
    spec = manifest.segments[entry]
    feeds = {}
    for graph, text in spec.inputs.items():
        array = sample[Reference.parse(text).name]
        feeds[graph] = np.ascontiguousarray(np.broadcast_to(array, (rows, *array.shape)))
    answered = load(entry).run(feeds)
    return {state: answered[graph] for graph, state in spec.outputs.items()}


def _packed(packed: PackedSpec, batches: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return the rows of all batches side by side, by reference, as a packed layer reads them."""
    kept = [valid_tokens(batch[packed.mask]) for batch in batches]
    lengths = np.concatenate([valid.sum(axis=1) for valid in kept])
    leads = np.concatenate([batch[packed.mask][:, 0] for batch in batches])
    pack = pack_rows(lengths, leads)
    tokens = {
        state: pack.padded(
            np.concatenate(
                [batch[state][valid] for batch, valid in zip(batches, kept, strict=True)]
            )
        )
        for state in batches[0]
        if state != packed.mask
    }
    return tokens | pack.tensors()


def _call(
    manifest: Manifest, segment: str, load: Load, tensors: Mapping[str, Array]
) -> Callable[[], None]:
    """Return a bound call of a layer on these tensors, by reference."""
    spec, loaded = manifest.segments[segment], load(segment)
    feeds = {graph: tensors[text] for graph, text in spec.inputs.items()}
    outputs = {name: np.array(array) for name, array in loaded.run(feeds).items()}
    return loaded.bind(feeds, {graph: outputs[graph] for graph in spec.outputs})


def _timed(call: Callable[[], None]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s
