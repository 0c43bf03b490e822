"""What `exeunt bench load` is asked to do, validated once."""

from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from exeunt.bench.load.arrivals import (
    Schedule,
    constant,
    expected_requests,
    gamma,
    poisson,
    trace,
)
from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.errors import ConfigError
from exeunt.engine.validation import first_problem

SWEEP = "sweep"
TRACE = "trace:"
ARRIVALS = ("poisson", "gamma", "constant", f"{TRACE}FILE")
DEFAULT_SECONDS = 10.0
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)

Loop = Literal["closed", "open"]
Policy = Literal["default", "never"]


class LoadSettings(Frozen):
    """A run's settings; the field's names are those of the options.

    bundle: a directory; the embedded one when None. data: see `load_data`. exits: serve the
    synthetic model `uniter-base` in place of a bundle, its requests leaving as this distribution
    says. hidden: that model's width. samples: how many of them, drawn from the seed. loop: None
    takes open where a rate or a trace is given. in_flight: of the closed loop. rate: requests/s, or
    `sweep`. shares: of saturation, of a sweep. arrivals: see ARRIVALS. burstiness: of `gamma`.
    speed: of a trace. over: the engine in this process, or HTTP. url: of a running server. slo_ms:
    the latency that goodput and the knee are held to. seconds: the measured window of each run.
    warm_up: seconds before it. policy: the exit policy in force, full depth, or both in turns.
    backend, threads: None takes the configuration's.
    """

    bundle: Path | None = None
    data: str = "demo"
    exits: str | None = None
    hidden: int = Field(default=768, ge=64, le=8192, multiple_of=64)
    samples: int = Field(default=1000, ge=1)
    loop: Loop | None = None
    in_flight: int = Field(default=64, ge=1, le=100_000)
    rate: float | Literal["sweep"] | None = None
    shares: tuple[float, ...] = SHARES
    arrivals: str = "poisson"
    burstiness: float | None = Field(default=None, gt=0)
    speed: float | None = Field(default=None, gt=0)
    over: Literal["engine", "http"] = "engine"
    url: str | None = None
    slo_ms: float | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0, le=86_400)
    repeats: int = Field(default=3, ge=1, le=1000)
    warm_up: float = Field(default=1.0, ge=0, le=86_400)
    policy: Literal["default", "never", "both"] = "both"
    backend: str | None = None
    threads: int | None = Field(default=None, ge=0, le=1024)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @property
    def trace_file(self) -> Path | None:
        """The trace's file, where arrivals come from one."""
        named = self.arrivals.startswith(TRACE)
        return Path(self.arrivals[len(TRACE) :]) if named else None

    @property
    def is_open(self) -> bool:
        """Whether requests are sent at scheduled times."""
        given = self.rate is not None or self.trace_file is not None
        return given if self.loop is None else self.loop == "open"

    @property
    def window_s(self) -> float:
        """The measured window, where no trace is given."""
        return self.seconds or DEFAULT_SECONDS

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The exit policies to measure, the baseline last."""
        return ("default", "never") if self.policy == "both" else (self.policy,)

    @model_validator(mode="after")
    def _check(self) -> Self:
        checks = (
            self._wrong_arrivals,
            self._wrong_loop,
            self._wrong_shares,
            self._wrong_url,
            self._wrong_model,
        )
        for wrong in (check() for check in checks):
            if wrong:
                raise ValueError(wrong)
        return self

    def _wrong_arrivals(self) -> str | None:
        if self.trace_file is None and self.arrivals not in ARRIVALS[:3]:
            return f"unknown arrivals {self.arrivals!r}: expected one of {', '.join(ARRIVALS)}"
        if self.burstiness is not None and self.arrivals != "gamma":
            return "--burstiness belongs to --arrivals gamma"
        if self.speed is not None and self.trace_file is None:
            return "--speed belongs to --arrivals trace:FILE"
        if self.trace_file is not None and self.rate is not None:
            return "a trace has its own rate: leave --rate out, and use --speed to scale it"
        if isinstance(self.rate, float) and self.rate <= 0:
            return f"--rate is {self.rate:g}: expected requests/s over 0, or `{SWEEP}`"
        return None

    def _wrong_loop(self) -> str | None:
        if self.is_open and self.rate is None and self.trace_file is None:
            return f"an open loop needs --rate: requests/s, or `{SWEEP}`"
        if not self.is_open and self.rate is not None:
            return "a closed loop sends when an answer comes: leave --rate out, or use --loop open"
        if not self.is_open and self.arrivals != "poisson":
            return "a closed loop has no arrivals: leave --arrivals out, or use --loop open"
        if self.is_open and self.rate != SWEEP and "in_flight" in self.model_fields_set:
            return "an open loop does not limit what is in flight: leave --in-flight out"
        return None

    def _wrong_model(self) -> str | None:
        given = self.model_fields_set
        if self.exits is None:
            return "--hidden belongs to --exits" if "hidden" in given else None
        if self.over != "engine":
            return "--exits draws exits in this process: leave --over out"
        if wrong := given & {"bundle", "data"}:
            return f"--exits serves the synthetic model: leave {' and '.join(sorted(wrong))} out"
        return None

    def _wrong_shares(self) -> str | None:
        if "shares" in self.model_fields_set and self.rate != SWEEP:
            return f"--shares belongs to --rate {SWEEP}"
        ascending = all(one < other for one, other in pairwise(self.shares))
        if not self.shares or not ascending or not 0 < self.shares[0] <= self.shares[-1] <= 2:
            return "--shares expects numbers over 0, ascending, up to 2"
        return None

    def _wrong_url(self) -> str | None:
        if self.url is None:
            return None
        if self.over != "http":
            return "--url names a server: add --over http"
        if not self.url.startswith(("http://", "https://")):
            return f"--url is {self.url!r}: expected http://HOST:PORT"
        for name in ("bundle", "backend", "threads"):
            if getattr(self, name) is not None:
                return f"the server at --url has its own {name}: leave it out"
        return None


def load_settings(**options: object) -> LoadSettings:
    """Return validated settings, a trace read on trial.

    Raises:
        ConfigError: an option is wrong, or does not go with another; the message says which.
    """
    try:
        settings = LoadSettings.model_validate(options)
    except ValidationError as error:
        key, what = first_problem(error)
        option = f"--{key.split('.')[0].replace('_', '-')}: " if key else ""
        raise ConfigError(f"{option}{what}") from None
    if settings.trace_file is not None:
        Arrivals(settings)
    elif isinstance(settings.rate, float):
        expected_requests(settings.rate, settings.warm_up + settings.window_s)
    return settings


class Arrivals:
    """Makes the schedule of each run. The trace is read once.

    Args:
        settings: of an open loop.

    Raises:
        ConfigError: the trace cannot be used.
    """

    def __init__(self, settings: LoadSettings) -> None:
        self._settings = settings
        file = settings.trace_file
        self._trace = trace(file, settings.speed or 1.0) if file else None
        self.seconds = settings.window_s
        if self._trace is not None:
            left_s = self._trace.duration_s - settings.warm_up
            if left_s <= 0:
                raise ConfigError(
                    f"the trace {file} lasts {self._trace.duration_s:g} s, not longer than the"
                    f" warm-up of {settings.warm_up:g} s: lower --warm-up or --speed"
                )
            # The last request lies at the trace's very end: the window just holds it.
            self.seconds = min(settings.seconds or left_s, left_s) + 1e-9

    def schedule(self, rate: float | None, repeat: int) -> Schedule:
        """Return the schedule of a repeat; the same for each policy.

        Args:
            rate: requests/s; None takes the trace's.
            repeat: each has its own draw.
        """
        end_s = self._settings.warm_up + self.seconds
        if self._trace is not None:
            return self._trace.until(end_s)
        assert rate is not None, "only a trace has a rate of its own"
        seed = [self._settings.seed, repeat]
        match self._settings.arrivals:
            case "constant":
                return constant(rate, end_s)
            case "gamma":
                return gamma(rate, end_s, seed, self._settings.burstiness or 1.0)
            case _:
                return poisson(rate, end_s, seed)
