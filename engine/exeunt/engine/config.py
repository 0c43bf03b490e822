"""The engine's configuration: frozen, validated once at the door."""

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, ValidationError

from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy.format import ExitPolicy
from exeunt.engine.inputs.limits import InputLimits
from exeunt.engine.validation import first_problem


class EngineConfig(Frozen):
    """Settings of an engine.

    backend: what runs the segments. threads: of the process-wide compute pool; 0 takes one for each
    core this process may use. max_batch_rows: rows of a batch at most. min_batch_rows: the smallest
    batch that is worth running before a deeper, smaller one. max_wait_s: rows that wait longer go
    first. max_queued_rows: rows admitted at once; further requests are refused. warm_up: run every
    segment once before the engine is ready. exit_policy: criteria and thresholds; without one the
    bundle's own, and without that `never`. limits: caps on images and texts.
    """

    backend: Literal["onnxruntime", "torch", "fake"] = "onnxruntime"
    threads: int = Field(default=0, ge=0, le=1024)
    max_batch_rows: int = Field(default=32, ge=1, le=65_536)
    min_batch_rows: int = Field(default=3, ge=1)
    max_wait_s: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    max_queued_rows: int = Field(default=1024, ge=1)
    warm_up: bool = True
    exit_policy: ExitPolicy | None = None
    limits: InputLimits = InputLimits()

    @property
    def compute_threads(self) -> int:
        """Threads of the compute pool, the automatic 0 resolved."""
        return self.threads or len(os.sched_getaffinity(0))


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
