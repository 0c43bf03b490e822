"""What `exeunt bench generation` is asked to do."""

from collections.abc import Mapping

from pydantic import Field, ValidationError

from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.config import EngineConfig, engine_config
from exeunt.engine.errors import ConfigError
from exeunt.engine.validation import first_problem


class GenerationBench(Frozen):
    """Settings.

    data: see `load_generation_data`. samples: of each task, from its beginning; 0 takes all.
    repeats: counted passes of every side, in turns. threads: 0 takes one a core. streams: of the
    engine. batch_rows: of the engine's batches at most. loop_rows: of the plain loop's.
    """

    data: str = "scenes"
    samples: int = Field(default=512, ge=0)
    repeats: int = Field(default=5, ge=1, le=1000)
    threads: int = Field(default=0, ge=0)
    streams: int = Field(default=1, ge=1)
    batch_rows: int = Field(default=32, ge=1)
    loop_rows: int = Field(default=16, ge=1)

    def engine(self) -> EngineConfig:
        """Return the engine's settings: no state cache, which would serve repeats by heart."""
        return engine_config(
            {
                "threads": self.threads,
                "streams": self.streams,
                "max_batch_rows": self.batch_rows,
                "max_queued_rows": 65_536,
                "state_cache_bytes": 0,
            }
        )


def generation_bench(settings: Mapping[str, object]) -> GenerationBench:
    """Return validated settings.

    Raises:
        ConfigError: names the setting that is wrong and what was expected.
    """
    try:
        return GenerationBench.model_validate(dict(settings))
    except ValidationError as error:
        key, what = first_problem(error)
        raise ConfigError(f"bench generation, at {key or 'top'}: {what}") from None
