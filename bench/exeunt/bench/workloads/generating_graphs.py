"""A model that generates as two ONNX graphs: all that runs once, and one step of its loop."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from exeunt.bench.workloads.cache import bench_cache, making
from exeunt.bench.workloads.joining import Joined
from exeunt.bench.workloads.lane import BATCH, last_head
from exeunt.engine.bundle.consistency import lane_order
from exeunt.engine.bundle.manifest import LaneSpec, Manifest
from exeunt.engine.bundle.reader import MANIFEST_FILE, Bundle
from exeunt.engine.bundle.tensors import LOOP_TENSORS
from exeunt.engine.errors import ConfigError


@dataclass(frozen=True)
class GeneratingGraphs:
    """Where the graphs are.

    once: from raw tensors to the constants of the loop. step: from those, the token, the step and
    the caches to `logits` and the new token's slices. constants, caches: the states that pass
    between them, by name.
    """

    once: Path
    step: Path
    constants: tuple[str, ...]
    caches: tuple[str, ...]


def generating_graphs(bundle: Bundle, *, cache_dir: Path | None = None) -> GeneratingGraphs:
    """Return the graphs of a bundle, which are written at the first call.

    Args:
        bundle: whose answering lane loops and keeps caches.
        cache_dir: see `bench_cache`; the files lie in `whole` there.

    Raises:
        ConfigError: the bundle is not of that kind, or the cache cannot be written.
    """
    lane = looping_lane(bundle.manifest)
    digest = hashlib.sha256((bundle.root / MANIFEST_FILE).read_bytes()).hexdigest()[:12]
    folder = bench_cache(cache_dir) / "whole"
    files = [folder / f"{bundle.manifest.name}-{digest}-{part}.onnx" for part in ("once", "step")]
    for file, join in zip(files, (_join_once, _join_step), strict=True):
        with making(file):
            if not file.is_file():
                part = file.with_suffix(".part")
                part.write_bytes(join(bundle, lane).model().SerializeToString(deterministic=True))
                part.replace(file)
    caches = tuple(name for cache in lane.caches for name in cache.appended)
    return GeneratingGraphs(files[0], files[1], _constants(bundle.manifest, lane), caches)


def looping_lane(manifest: Manifest) -> LaneSpec:
    """Return the lane that generates.

    Raises:
        ConfigError: there is none, or it keeps no caches.
    """
    lane = manifest.lane(manifest.tasks[0].lane)
    if lane.loop is None or not lane.caches:
        raise ConfigError(
            f"the bundle {manifest.name!r} has no decoder with caches: expected one that generates"
        )
    return lane


def _join_once(bundle: Bundle, lane: LaneSpec) -> Joined:
    manifest = bundle.manifest
    joined = Joined(bundle, "once")
    for name, spec in manifest.tensors.items():
        joined.read(f"input.{name}", name, spec.dtype, [BATCH, *spec.shape])
    for name in lane_order(manifest):
        other = manifest.lane(name)
        if other is lane:
            continue
        for segment in (*other.setup, *([other.entry] if other.entry else []), *other.layers):
            joined.add(segment, name)
    for segment in _once(lane):
        joined.add(segment, lane.name)
    for state in _constants(manifest, lane):
        own = lane.state[state]
        joined.write(f"{lane.name}.{state}", state, own.dtype, [BATCH, *own.shape])
    return joined


def _join_step(bundle: Bundle, lane: LaneSpec) -> Joined:
    joined = Joined(bundle, "step")
    for name in ("token", "step", "cached"):
        spec = LOOP_TENSORS[name]
        joined.read(f"loop.{name}", name, spec.dtype, [BATCH, *spec.shape])
    for state in _constants(bundle.manifest, lane):
        own = lane.state[state]
        joined.read(f"{lane.name}.{state}", state, own.dtype, [BATCH, *own.shape])
    caches = [name for cache in lane.caches for name in cache.appended]
    for state in caches:
        own = lane.state[state]
        joined.read(f"{lane.name}.{state}", state, own.dtype, [BATCH, *own.shape])
    assert lane.entry is not None, "every step enters anew"
    joined.add(lane.entry, lane.name)
    for segment in lane.layers:
        joined.add(segment, lane.name)
    joined.answer(last_head(lane), lane.name, "logits")
    assert lane.classes is not None, "a loop lane has heads"
    joined.output("logits", "float32", [BATCH, lane.classes])
    for state in caches:
        own = lane.state[state]
        joined.write(f"{lane.name}.{state}", f"new_{state}", own.dtype, [BATCH, *own.shape[1:]])
    return joined


def _once(lane: LaneSpec) -> list[str]:
    """Return the lane's segments that run once a sample."""
    return [*lane.setup, *lane.contexts.values()]


def _constants(manifest: Manifest, lane: LaneSpec) -> tuple[str, ...]:
    """Return the states that are written once and read in a step."""
    written = {text for name in _once(lane) for text in manifest.segments[name].outputs.values()}
    steps = [*([lane.entry] if lane.entry else []), *lane.layers, last_head(lane)]
    read = {text for name in steps for text in manifest.segments[name].inputs.values()}
    return tuple(sorted(written & read))
