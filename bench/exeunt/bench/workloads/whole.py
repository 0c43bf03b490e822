"""A bundle's segments joined into one graph: what a runtime without exits would be given.

The graph is made of the very segments, weights and operators, so that only the cuts between them
differ. It is loaded through the backend's own interface, like a segment of its own.
"""

import hashlib
from pathlib import Path
from typing import Literal

import onnx

from exeunt.bench.workloads.cache import bench_cache, making
from exeunt.bench.workloads.joining import Joined
from exeunt.bench.workloads.lane import BATCH, entering, last_head, single_lane
from exeunt.engine.backends import Backend
from exeunt.engine.backends.base import LoadedSegment
from exeunt.engine.bundle.manifest import LaneSpec, SegmentSpec
from exeunt.engine.bundle.reader import MANIFEST_FILE, Bundle

Heads = Literal["last", "all"]


def whole_graph(bundle: Bundle, heads: Heads = "last", *, cache_dir: Path | None = None) -> Path:
    """Return the file of the whole model as one ONNX graph, which is written at the first call.

    Args:
        bundle: of one lane.
        heads: `last`: full depth, with the output `logits`. `all`: also every exit head, with an
            output `logits.LAYER` each.
        cache_dir: see `bench_cache`; the file lies in `whole` there.

    Raises:
        ConfigError: the bundle is not of one lane, or the cache cannot be written.
    """
    digest = hashlib.sha256((bundle.root / MANIFEST_FILE).read_bytes()).hexdigest()[:12]
    file = bench_cache(cache_dir) / "whole" / f"{bundle.manifest.name}-{digest}-{heads}.onnx"
    with making(file):
        if not file.is_file():
            part = file.with_suffix(".part")
            part.write_bytes(join_segments(bundle, heads).SerializeToString(deterministic=True))
            part.replace(file)
    return file


def load_whole(backend: Backend, bundle: Bundle, heads: Heads, file: Path) -> LoadedSegment:
    """Return a whole graph of the bundle, loaded as the backend loads every segment of it."""
    spec = SegmentSpec(
        kind="head",
        file=file.name,
        sha256="0" * 64,  # nothing checks a file of the cache
        inputs={name: f"input.{name}" for name in bundle.manifest.tensors},
        outputs=dict.fromkeys(_outputs(single_lane(bundle.manifest), heads), "head.logits"),
    )
    name = f"whole.{heads}"
    segments = {**bundle.manifest.segments, name: spec}
    return backend.load(
        bundle.manifest.model_copy(update={"segments": segments}), file.parent, name
    )


def join_segments(bundle: Bundle, heads: Heads) -> onnx.ModelProto:
    """Return the bundle's segments as one graph; see `whole_graph`.

    Raises:
        ConfigError: the bundle is not of one lane, or its segments cannot share a graph.
    """
    lane = single_lane(bundle.manifest)
    joined = Joined(bundle, "whole")
    for name, spec in bundle.manifest.tensors.items():
        joined.read(f"input.{name}", name, spec.dtype, [BATCH, *spec.shape])
    for name in entering(lane):
        joined.add(name, lane.name)
    for layer, name in enumerate(lane.layers, 1):
        joined.add(name, lane.name)
        if heads == "all" and layer in lane.heads:
            joined.answer(lane.heads[layer], lane.name, f"logits.{layer}")
    joined.answer(last_head(lane), lane.name, "logits")
    assert lane.classes is not None, "a lane with a head says how wide it is"
    for output in _outputs(lane, heads):
        joined.output(output, "float32", [BATCH, lane.classes])
    return joined.model()


def _outputs(lane: LaneSpec, heads: Heads) -> list[str]:
    exits = [f"logits.{layer}" for layer in sorted(lane.heads)] if heads == "all" else []
    return [*exits, "logits"]
