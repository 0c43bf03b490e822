"""What an exactness run compares."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, ValidationError

from exeunt.bench.workloads import UniterConfig
from exeunt.bench.workloads.samples import Lengths
from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.config import Layout, Precision, available_cores
from exeunt.engine.errors import ConfigError
from exeunt.engine.validation import first_problem

Thresholds = Literal["between", "on-score"]


class ExactnessSettings(Frozen):
    """One run.

    workload: the model's sizes. exits: where the samples leave, see
    `exeunt.bench.workloads.exits`. thresholds: `between` lie halfway between two samples' scores;
    `on-score` lie on the score of a sample that must stay, so that the last bit decides. lengths:
    of the samples. samples: served under every schedule. schedules: random ones. tolerance: how far
    logits, and scores from a threshold, may be off between buckets or layouts. seed: of samples and
    schedules. threads, streams: as the engine's, the reference's as well.
    """

    workload: UniterConfig = UniterConfig(hidden=192)
    exits: str = "uniform"
    thresholds: Thresholds = "between"
    lengths: Lengths = "varying-text"
    backend: Literal["onnxruntime", "openvino"] = "onnxruntime"
    precision: Precision = "fp32"
    layout: Layout = "padded"
    threads: int = Field(default=0, ge=0, le=1024)
    streams: int = Field(default=1, ge=1, le=1024)
    samples: int = Field(default=256, ge=2, le=100_000)
    schedules: int = Field(default=6, ge=1, le=1000)
    tolerance: float = Field(default=1e-5, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @property
    def compute_threads(self) -> int:
        """Compute threads, the automatic 0 resolved."""
        return self.threads or available_cores()


def exactness_settings(settings: Mapping[str, object]) -> ExactnessSettings:
    """Return validated settings.

    Raises:
        ConfigError: names the setting that is wrong and what was expected.
    """
    try:
        return ExactnessSettings.model_validate(dict(settings))
    except ValidationError as error:
        key, what = first_problem(error)
        raise ConfigError(f"bench exact, at {key or 'top'}: {what}") from None
