"""Peers in process: other ways to serve the same samples with the same segments.

Fair play: every early-exit peer runs each layer's head and the entropy criterion as the engine
does, the drawn exits override the verdict alone, the entry segment and the stacking of batches are
within the time, and memory is bound once. `torch_compile` and `static` run full depth.
"""

from exeunt.bench.peers.base import Peer, PeerRun
from exeunt.bench.peers.batch1 import Batch1
from exeunt.bench.peers.by_segments import build_segment_peer, segment_peer
from exeunt.bench.peers.compact import Compact
from exeunt.bench.peers.consensus import Consensus
from exeunt.bench.peers.own_process import OwnProcess
from exeunt.bench.peers.processes import Batch1Processes
from exeunt.bench.peers.run_until_last import RunUntilLast
from exeunt.bench.peers.segments import Segments
from exeunt.bench.peers.static import StaticBatches
from exeunt.bench.peers.static_callers import StaticCallers
from exeunt.bench.peers.static_graphs import static_graphs
from exeunt.bench.peers.static_search import StaticSearch, best_static, search_static
from exeunt.bench.peers.static_streams import FullDepth, best_of_all_ways

__all__ = [
    "Batch1",
    "Batch1Processes",
    "Compact",
    "Consensus",
    "FullDepth",
    "OwnProcess",
    "Peer",
    "PeerRun",
    "RunUntilLast",
    "Segments",
    "StaticBatches",
    "StaticCallers",
    "StaticSearch",
    "best_of_all_ways",
    "best_static",
    "build_segment_peer",
    "search_static",
    "segment_peer",
    "static_graphs",
]
