"""Random schedules, and serving all samples through the engine under one of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.exactness.settings import ExactnessSettings
from exeunt.engine import Engine, EngineConfig
from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.config import engine_config
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import ExitPolicy

BATCH_ROWS = (2, 3, 5, 8, 13, 16, 32)
WAITS_S = (1e-6, 1e-3, 1.0)  # rows that wait longer go first: always, sometimes, never
MOST_RESIDENT_BATCHES = 16
PAUSING, LONGEST_PAUSE_S = 0.05, 0.01  # share of the submissions that come after a pause


@dataclass(frozen=True)
class Schedule:
    """When samples come, and what the engine's scheduler may do with them.

    order: i64[N], the places of the samples in the order of their submission. pauses_s: f64[N],
    before each. limits: settings of the engine.
    """

    order: NDArray[np.int64]
    pauses_s: NDArray[np.float64]
    limits: dict[str, int | float]


@dataclass(frozen=True)
class Served:
    """What N samples were answered. exit_layers: i64[N]. logits: f32[N, C].

    rows_per_batch: mean rows of a layer's batch.
    """

    exit_layers: NDArray[np.int64]
    logits: NDArray[np.float32]
    rows_per_batch: float


def draw_schedule(count: int, random: np.random.Generator) -> Schedule:
    """Return a schedule for `count` samples."""
    rows = int(random.choice(BATCH_ROWS))
    pauses = random.uniform(0, LONGEST_PAUSE_S, count) * (random.random(count) < PAUSING)
    limits: dict[str, int | float] = {
        "max_batch_rows": rows,
        "min_batch_rows": int(random.integers(1, rows, endpoint=True)),
        "max_resident_rows": int(random.integers(rows, MOST_RESIDENT_BATCHES * rows)),
        "max_wait_s": float(random.choice(WAITS_S)),
    }
    return Schedule(random.permutation(count), pauses, limits)


def allowed_deterministic(bundle: Bundle, settings: ExactnessSettings) -> bool:
    """Return whether an engine with `deterministic: true` opens in this layout."""
    try:
        Engine.open(bundle, limited(settings, {}, deterministic=True)).close()
    except ConfigError:
        # Any other reason is met again by the first engine that serves.
        return False
    return True


def limited(
    settings: ExactnessSettings, limits: Mapping[str, int | float], *, deterministic: bool
) -> EngineConfig:
    """Return the configuration of an engine that serves under these limits.

    Raises:
        ConfigError: they contradict each other.
    """
    return engine_config(
        {
            "backend": settings.backend,
            "precision": settings.precision,
            "layout": settings.layout,
            "threads": settings.threads,
            "streams": settings.streams,
            "deterministic": deterministic,
            "max_queued_rows": max(settings.samples, *BATCH_ROWS),
            "warm_up": False,  # it measures what batches cost, and these are drawn
            **limits,
        }
    )


def serve(
    engine: Engine, schedule: Schedule, samples: Sequence[Mapping[str, Array]], policy: ExitPolicy
) -> Served:
    """Serve all samples once, in the schedule's order.

    Args:
        engine: opened under the schedule's limits.
        schedule: of as many samples.
        samples: raw tensors.
        policy: under which they leave.

    Raises:
        SegmentError: a segment failed.
    """
    compiled = engine.compile(policy)
    with engine.reserve(len(samples)) as ticket:
        pending = {}
        for place, pause_s in zip(schedule.order.tolist(), schedule.pauses_s, strict=True):
            if pause_s:
                time.sleep(pause_s)
            pending[place] = engine.submit_tensors(ticket, samples[place], exit_policy=compiled)
        answers = [pending[place].result() for place in range(len(samples))]
    layers = [counts for (_, layer), counts in engine.stats.stage_rows.items() if layer]
    return Served(
        np.array([answer.exit_layer for answer in answers], dtype=np.int64),
        np.stack([answer.logits for answer in answers]),
        sum(rows for rows, _ in layers) / max(1, sum(batches for _, batches in layers)),
    )
