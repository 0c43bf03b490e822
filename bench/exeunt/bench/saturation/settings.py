"""What a saturation run measures."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from exeunt.bench.workloads import UniterConfig
from exeunt.bench.workloads.samples import Lengths
from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.config import available_cores
from exeunt.engine.errors import ConfigError
from exeunt.engine.validation import first_problem

PeerName = Literal[
    "run-until-last", "compact", "consensus", "batch-1", "batch-1 processes", "torch.compile"
]
PEERS: tuple[PeerName, ...] = (
    "run-until-last",
    "compact",
    "consensus",
    "batch-1",
    "batch-1 processes",
    "torch.compile",
)
# A pass of UNITER-base takes a few seconds on two cores with this many samples: short enough that
# a machine whose speed drifts slows everybody alike within a repeat.
BASE_SAMPLES, BASE_HIDDEN = 96, 768
MOST_SAMPLES = 1024


class SaturationSettings(Frozen):
    """One run.

    hidden, layers: of the workload. exits: see `exeunt.bench.workloads.exits`. lengths: of the
    samples. streams: batches that the engine runs at the same time, each on threads / streams
    compute threads; the peers compute on all of them. samples: counted in each pass; 0 takes as
    many as a few seconds serve. batch_rows: rows of the engine's and of the early-exit peers'
    batches at most; the full-depth baseline has its own best. peers: beside the full-depth
    baseline, which always runs.
    """

    hidden: int = Field(default=768, ge=1, le=8192)
    layers: int = Field(default=12, ge=1, le=96)
    exits: str = "uniform"
    lengths: Lengths = "fixed"
    backend: Literal["onnxruntime", "openvino"] = "onnxruntime"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = Field(default=0, ge=0, le=1024)
    streams: int = Field(default=1, ge=1, le=1024)
    batch_rows: int = Field(default=16, ge=1, le=4096)
    samples: int = Field(default=0, ge=0, le=1_000_000)
    repeats: int = Field(default=9, ge=1, le=1000)
    peers: tuple[PeerName, ...] = ("run-until-last", "compact", "consensus")
    seed: int = Field(default=0, ge=0, lt=2**31)

    @property
    def workload(self) -> UniterConfig:
        """The model's sizes."""
        return UniterConfig(hidden=self.hidden, layers=self.layers)

    @property
    def compute_threads(self) -> int:
        """Compute threads, the automatic 0 resolved."""
        return self.threads or available_cores()

    @property
    def counted(self) -> int:
        """Samples counted in each pass, the automatic 0 resolved."""
        if self.samples:
            return self.samples
        fitting = BASE_SAMPLES * (BASE_HIDDEN / self.hidden) ** 1.5  # small models pay more a layer
        return max(8 * self.batch_rows, min(MOST_SAMPLES, int(fitting)))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.samples and self.samples < 4 * self.batch_rows:
            raise ValueError(
                f"{self.samples} samples are fewer than four batches of {self.batch_rows} rows: a"
                " pass would be all beginning and end; give more samples or a smaller batch"
            )
        if self.compute_threads % self.streams:
            raise ValueError(
                f"{self.compute_threads} compute threads cannot be shared out evenly among"
                f" {self.streams} streams: give a number of streams that divides them"
            )
        return self


def saturation_settings(settings: Mapping[str, object]) -> SaturationSettings:
    """Return validated settings.

    Raises:
        ConfigError: names the setting that is wrong and what was expected.
    """
    try:
        return SaturationSettings.model_validate(dict(settings))
    except ValidationError as error:
        key, what = first_problem(error)
        raise ConfigError(f"bench engine, at {key or 'top'}: {what}") from None
