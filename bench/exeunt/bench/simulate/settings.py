"""What `exeunt simulate` is asked to do, validated once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exeunt.bench.load.settings import SWEEP, LoadSettings, load_settings
from exeunt.bench.simulate.costs import CostFile
from exeunt.bench.workloads import draw_exits, uniter_config
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import ConfigError
from exeunt.engine.scheduling.scheduler import check_batch_rows
from exeunt.server.load_settings import load_settings as load_server_settings

SAMPLES = 1000  # different ones, sent in turns; of each, the exits are drawn once


@dataclass(frozen=True)
class SimulationSettings:
    """A simulation, apart from its costs.

    load: arrivals, windows, repeats and seed, as `exeunt bench load` takes them. engine: batches,
    queue, residents and policy. exits: see `exeunt.bench.workloads.exits`.
    """

    load: LoadSettings
    engine: EngineConfig
    exits: str = "uniform"


@dataclass(frozen=True)
class Measurable:
    """What costs are measured on: a bundle, or the synthetic model of a width.

    bundle: None takes the embedded one, or the synthetic model where `hidden` is given. task: which
    one, where the bundle has several.
    """

    bundle: Path | None = None
    hidden: int | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.bundle is not None and self.hidden is not None:
            raise ConfigError(
                "--hidden names the synthetic model: leave the bundle out, or --hidden"
            )
        if self.hidden is not None:
            uniter_config(hidden=self.hidden)


def simulation_settings(
    load: Mapping[str, object], engine: Mapping[str, object], exits: str = "uniform"
) -> SimulationSettings:
    """Return validated settings.

    Args:
        load: some of `LoadSettings`.
        engine: some of `EngineConfig`; what is not given comes from the environment, as for
            `exeunt serve`.
        exits: a distribution's name.

    Raises:
        ConfigError: names the option that is wrong and what was expected.
    """
    loaded = load_settings(**load)
    if loaded.rate == SWEEP:
        raise ConfigError(f"--rate {SWEEP}: expected requests/s; simulate one rate after the other")
    flags: dict[str, Any] = {"engine": dict(engine)}
    config = load_server_settings(None, flags).engine_config()
    return SimulationSettings(loaded, config.model_copy(update={"warm_up": True}), exits)


def check_fit(settings: SimulationSettings, costs: CostFile) -> None:
    """Check the engine's sizes against each other and against what is simulated.

    Raises:
        ConfigError: names the setting and the number that would fit.
    """
    config = settings.engine
    if wrong := check_batch_rows(config.max_batch_rows, costs.lanes):
        raise ConfigError(wrong)
    least = max(config.max_batch_rows, costs.rows)
    if config.max_queued_rows < least:
        raise ConfigError(
            f"max_queued_rows is {config.max_queued_rows}, but a batch has up to {least} rows:"
            f" raise it to {least} at least"
        )
    if config.max_resident_rows and config.max_resident_rows < config.max_batch_rows:
        raise ConfigError(
            f"max_resident_rows is {config.max_resident_rows}, smaller than a batch of"
            f" {config.max_batch_rows} rows: raise it, or leave it to be chosen"
        )
    places = config.max_queued_rows // costs.rows
    if not settings.load.is_open and settings.load.in_flight > places:
        raise ConfigError(
            f"--in-flight is {settings.load.in_flight}, but the engine holds {places} requests:"
            " lower it, or raise --max-queued-rows"
        )


def drawn_exits(settings: SimulationSettings, costs: CostFile) -> list[tuple[int, ...]]:
    """Return the exit layer in each lane of SAMPLES samples.

    Lanes draw on their own; one that rows cannot leave early is walked to its end.

    Raises:
        ConfigError: there is no such distribution, or not over that depth.
    """
    columns = [
        draw_exits(settings.exits, lane.depth, SAMPLES, settings.load.seed + place).tolist()
        if lane.exits and lane.depth
        else [lane.depth] * SAMPLES
        for place, lane in enumerate(reversed(costs.lanes))
    ]
    return list(zip(*reversed(columns), strict=True))


def sample_order(settings: SimulationSettings, repeat: int) -> list[int]:
    """Return the order in which a repeat sends the samples, in turns."""
    random = np.random.default_rng([settings.load.seed, repeat, 1])
    order: list[int] = random.permutation(SAMPLES).tolist()
    return order
