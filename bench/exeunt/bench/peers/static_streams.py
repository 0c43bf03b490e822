"""The best of full depth beside an engine of several streams."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from exeunt.bench.peers.base import Peer
from exeunt.bench.peers.own_process import OwnProcess
from exeunt.bench.peers.static_search import StaticSearch, Tried, best_static, take_turns
from exeunt.bench.workloads.samples import Sample
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.bundle.reader import Bundle


@dataclass(frozen=True)
class FullDepth:
    """What to search through; see `best_static`."""

    samples: Sequence[Sample]
    threads: int
    streams: int
    precision: Literal["fp32", "bf16"]
    sizes: Sequence[int]
    repeats: int
    cache_dir: Path | None


def best_of_all_ways(
    bundle: Bundle, backend: Backend, wanted: FullDepth
) -> tuple[Peer, dict[Tried, float]]:
    """Find the fastest way to run full depth on the engine's cores: by one caller, or by several.

    Args:
        bundle: of one lane.
        backend: the engine's.
        wanted: what to search through.

    Returns:
        The peer, and the seconds of one sample by setting.

    Raises:
        ConfigError: see `best_static`.
        SegmentError: a process that was to run full depth failed.
    """
    here = _search(bundle, backend, wanted, wanted.streams)
    if wanted.streams == 1 or backend.name != "onnxruntime":
        return here.best, here.seconds
    alone = OwnProcess("static", partial(_alone, bundle.root, wanted))
    seconds = alone.known
    assert isinstance(seconds, dict), "a search knows its seconds"
    leading = [min(found, key=found.__getitem__) for found in (here.seconds, seconds)]
    finals = take_turns(
        dict(zip(leading, (here.best, alone), strict=True)), wanted.samples, wanted.repeats
    )
    tried = here.seconds | seconds | finals
    if finals[leading[0]] <= finals[leading[1]]:
        alone.close()
        return here.best, tried
    here.best.close()
    return alone, tried


def _alone(root: Path, wanted: FullDepth) -> tuple[Peer, object]:
    """Search with one caller and all threads, in a process whose pool has them."""
    backend = open_backend("onnxruntime", wanted.threads)
    found = _search(Bundle.open(root, verify=False), backend, wanted, 1)
    return found.best, found.seconds


def _search(bundle: Bundle, backend: Backend, wanted: FullDepth, streams: int) -> StaticSearch:
    return best_static(
        bundle,
        backend,
        wanted.samples,
        threads=wanted.threads,
        streams=streams,
        precision=wanted.precision,
        sizes=wanted.sizes,
        repeats=wanted.repeats,
        cache_dir=wanted.cache_dir,
    )
