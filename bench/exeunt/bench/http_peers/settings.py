"""What a run over HTTP measures."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from exeunt.bench.workloads import UniterConfig
from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.config import available_cores
from exeunt.engine.errors import ConfigError
from exeunt.engine.validation import first_problem

PeerName = Literal["litserve", "litserve-best", "bentoml", "ray"]
PEERS: tuple[PeerName, ...] = ("litserve", "litserve-best", "bentoml", "ray")
InFlight = Annotated[int, Field(ge=1, le=1024)]  # the servers' queues hold no more


class HttpSettings(Frozen):
    """One run.

    exits: see `exeunt.bench.workloads.exits`. backend, precision: of our best configuration and of
    `litserve-best`; auto takes OpenVINO where it is installed, and bf16 where the CPU has it.
    hidden, layers: of the model. requests: different ones; they are sent in turns. peers: beside
    our server. in_flight: numbers of requests under way to try; each server is measured at its
    best. search: try batch sizes and time-outs of our best configuration and of the peers as well,
    else `batch_rows` and `batch_timeout_s` hold for all, and `streams` for ours. seconds,
    warm_up_s: of each counted run; trial_s: of a run in the search. threads: of every model; 0
    takes one for each core.
    """

    exits: str = "rho:.5"
    backend: Literal["auto", "onnxruntime", "openvino"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    hidden: int = Field(default=768, ge=1, le=8192)
    layers: int = Field(default=12, ge=1, le=96)
    requests: int = Field(default=256, ge=8, le=100_000)
    peers: tuple[PeerName, ...] = PEERS
    in_flight: tuple[InFlight, ...] = Field(default=(32, 64), min_length=1)
    search: bool = True
    batch_rows: int = Field(default=16, ge=2, le=1024)
    batch_timeout_s: float = Field(default=0.01, gt=0, le=10)
    streams: int = Field(default=1, ge=1, le=1024)
    repeats: int = Field(default=3, ge=1, le=1000)
    seconds: float = Field(default=15.0, gt=0, le=3600)
    warm_up_s: float = Field(default=3.0, ge=0, le=600)
    trial_s: float = Field(default=6.0, gt=0, le=3600)
    threads: int = Field(default=0, ge=0, le=1024)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @property
    def workload(self) -> UniterConfig:
        """The model's sizes."""
        return UniterConfig(hidden=self.hidden, layers=self.layers)

    @property
    def compute_threads(self) -> int:
        """Compute threads, the automatic 0 resolved."""
        return self.threads or available_cores()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for values, what in ((self.peers, "a peer"), (self.in_flight, "a number in flight")):
            if len(set(values)) < len(values):
                raise ValueError(f"{what} is named twice: name each once")
        return self


def http_settings(settings: Mapping[str, object]) -> HttpSettings:
    """Return validated settings.

    Raises:
        ConfigError: names the setting that is wrong and what was expected.
    """
    try:
        return HttpSettings.model_validate(dict(settings))
    except ValidationError as error:
        key, what = first_problem(error)
        raise ConfigError(f"bench http, at {key or 'top'}: {what}") from None
