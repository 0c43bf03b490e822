"""The engine's configuration: frozen, validated once at the door."""

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveInt, ValidationError

from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy.format import ExitPolicy
from exeunt.engine.inputs.limits import InputLimits
from exeunt.engine.validation import first_problem

# Rows wait at every layer for a batch that is worth its cost: a single batch's would starve it.
RESIDENT_BATCHES = 8
STREAM_BATCHES = 2  # for each further stream

Precision = Literal["fp32", "bf16"]
Layout = Literal["padded", "packed"]


class EngineConfig(Frozen):
    """Settings of an engine.

    backend: what runs the segments. precision: what matrix products are computed in; bf16 needs the
    backend openvino and a CPU that has it. deterministic: refuse what lets a row's answer depend on
    its batch mates. layout: of the layers' batches, padded rows of equal shapes or packed tokens of
    rows of any length; auto takes what is quicker at start-up, where the bundle offers both.
    threads: of the process-wide compute pool; 0 takes one for each core this
    process may use. streams: batches that run at once, each on threads / streams compute threads:
    more of them serve more requests a second, since one computes while another's rows are judged
    and moved, and a single request takes longer. max_batch_rows: rows of a batch at most.
    min_batch_rows: the smallest batch that is worth running before a deeper, smaller one; measured
    at start-up without it.
    max_wait_s: rows that wait longer for their next layer go first; without it, twice the time that
    all rows under way would need. latency_target_s: every request's deadline, counted from its
    submission; rows that can still meet it, but not later, go first. max_queued_rows: rows admitted
    at once; further requests are refused. max_resident_rows: of those, the rows that have entered
    their lanes; their states fill the slab. 0 takes eight batches, and two for each further stream.
    state_cache_bytes: of what image lanes made of images seen before; 0 keeps nothing.
    warm_up: run every segment before
    the engine is ready, and measure what it costs. sizes: for bundles that take raw tensors, the
    values of each symbolic size to warm up with, ascending. exit_policy: criteria and thresholds;
    without one the bundle's own, and without that `never`. limits: caps on images and texts.
    """

    backend: Literal["onnxruntime", "openvino", "torch", "fake"] = "onnxruntime"
    precision: Precision = "fp32"
    deterministic: bool = False
    layout: Literal["auto", "padded", "packed"] = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    streams: int = Field(default=1, ge=1, le=1024)
    max_batch_rows: int = Field(default=32, ge=1, le=65_536)
    min_batch_rows: int | None = Field(default=None, ge=1)
    max_wait_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    latency_target_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_queued_rows: int = Field(default=1024, ge=1)
    max_resident_rows: int = Field(default=0, ge=0)
    state_cache_bytes: int = Field(default=64 * 2**20, ge=0)
    warm_up: bool = True
    sizes: dict[str, tuple[PositiveInt, ...]] = Field(default_factory=dict)
    exit_policy: ExitPolicy | None = None
    limits: InputLimits = InputLimits()

    @property
    def resident_rows(self) -> int:
        """Rows under way at most, the automatic 0 resolved."""
        batches = RESIDENT_BATCHES + STREAM_BATCHES * (self.streams - 1)
        wanted = self.max_resident_rows or batches * self.max_batch_rows
        return min(wanted, self.max_queued_rows)

    @property
    def compute_threads(self) -> int:
        """Threads of the compute pool, the automatic 0 resolved."""
        return self.threads or available_cores()


def available_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def engine_config(config: "EngineConfig | Mapping[str, object] | None") -> EngineConfig:
    """Return a validated configuration.

    Raises:
        ConfigError: names the key that is wrong and what was expected.
    """
    if isinstance(config, EngineConfig):
        return config
    try:
        return EngineConfig.model_validate(
            dict(config) if isinstance(config, Mapping) else config or {}
        )
    except ValidationError as error:
        key, what = first_problem(error)
        raise ConfigError(f"engine configuration, at {key or 'top'}: {what}") from None
