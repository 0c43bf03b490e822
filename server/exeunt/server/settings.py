"""The server's settings: one frozen record, validated at the door."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.config import EngineConfig
from exeunt.engine.exit_policy import ExitPolicy
from exeunt.engine.exit_policy.format import Criteria
from exeunt.engine.inputs.limits import InputLimits

ENV_PREFIX = "EXEUNT__"
ENV_DELIMITER = "__"

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class OverrideSettings(Frozen):
    """What a request may change of the exit policy.

    criteria: those that it may name, `never` included. thresholds: whether it may set one.
    """

    criteria: tuple[Criteria, ...] = ()
    thresholds: bool = False


class ServerSettings(Frozen):
    """HTTP.

    port: 0 takes a free one. max_body_bytes: of one request. max_buffered_bytes: of all bodies
    that are held at once. max_samples: of one request. decode_threads: decode images and tokenise
    texts; 0 takes one for each core this process may use. request_timeout_s: from a request's
    head to its answer. shutdown_grace_s: how long a terminating server goes on accepting after
    readiness flipped. drain_s: how long it then waits for what it has accepted.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    max_body_bytes: int = Field(default=32 * 2**20, ge=1)
    max_buffered_bytes: int = Field(default=512 * 2**20, ge=1)
    max_samples: int = Field(default=64, ge=1)
    decode_threads: int = Field(default=0, ge=0, le=1024)
    request_timeout_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 30.0
    shutdown_grace_s: Seconds = 0.5
    drain_s: Seconds = 30.0
    overrides: OverrideSettings = OverrideSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ValueError("max_buffered_bytes must be at least max_body_bytes")
        return self


class LogSettings(Frozen):
    """The log, on standard error.

    format: `json`, one object a line; `console`, lines for people; `auto`, the latter on a
    terminal.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Settings(BaseSettings):
    """Everything that a deployment can set.

    bundle: a directory; the embedded one when absent. exit_policy: criteria and thresholds; the
    bundle's own when absent.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
    )

    bundle: Path | None = None
    server: ServerSettings = ServerSettings()
    engine: EngineConfig = EngineConfig()
    limits: InputLimits = InputLimits()
    exit_policy: ExitPolicy | None = None
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the library's signature)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take given values alone: `load_settings` merges file, environment and flags itself."""
        return (init_settings,)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for moved in ("exit_policy", "limits"):
            if moved in self.engine.model_fields_set:
                raise ValueError(f"set `{moved}` at the top level, not under `engine`")
        return self

    def engine_config(self) -> EngineConfig:
        """Return the engine's configuration, its limits and exit policy filled in."""
        return self.engine.model_copy(
            update={"limits": self.limits, "exit_policy": self.exit_policy}
        )
