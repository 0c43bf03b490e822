"""The early-exit peers by name."""

from pathlib import Path
from typing import Literal

from exeunt.bench.peers.base import Peer
from exeunt.bench.peers.batch1 import Batch1
from exeunt.bench.peers.compact import Compact
from exeunt.bench.peers.consensus import Consensus
from exeunt.bench.peers.run_until_last import RunUntilLast
from exeunt.bench.peers.segments import Segments
from exeunt.engine.backends import open_backend
from exeunt.engine.bundle.reader import Bundle

SegmentPeer = Literal["run-until-last", "compact", "consensus", "batch-1"]


def segment_peer(name: SegmentPeer, segments: Segments, batch_rows: int) -> Peer:
    """Return the peer of that name; `batch-1` has no use for the batch size."""
    match name:
        case "run-until-last":
            return RunUntilLast(segments, batch_rows)
        case "compact":
            return Compact(segments, batch_rows)
        case "consensus":
            return Consensus(segments, batch_rows)
        case "batch-1":
            return Batch1(segments)


def build_segment_peer(
    name: SegmentPeer, root: Path, backend: str, threads: int, batch_rows: int
) -> tuple[Peer, None]:
    """Return the peer, its segments loaded with a thread pool of that size, for `OwnProcess`."""
    bundle = Bundle.open(root, verify=False)
    return segment_peer(name, Segments(bundle, open_backend(backend, threads)), batch_rows), None
