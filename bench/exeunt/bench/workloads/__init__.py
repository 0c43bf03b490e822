"""Workloads: the synthetic model, samples for it, and where they leave.

Nothing here imports torch or onnx before a bundle has to be written.
"""

from exeunt.bench.workloads.config import UniterConfig, uniter_config
from exeunt.bench.workloads.exits import draw_exits, exit_shares
from exeunt.bench.workloads.policies import drawn_policies
from exeunt.bench.workloads.samples import Sample, draw_samples
from exeunt.bench.workloads.uniter_bundle import uniter_base_bundle

__all__ = [
    "Sample",
    "UniterConfig",
    "draw_exits",
    "draw_samples",
    "drawn_policies",
    "exit_shares",
    "uniter_base_bundle",
    "uniter_config",
]
