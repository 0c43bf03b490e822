"""Requests per second of one bundle, under its exit policy and to full depth, in one run."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from exeunt.bench.data import LabelledSample
from exeunt.bench.evaluation.evaluate import answer_all
from exeunt.engine import Engine
from exeunt.engine.exit_policy import never


@dataclass(frozen=True)
class Side:
    """One policy's figures. requests_per_second: median over repeats; spread: least, most."""

    requests_per_second: float
    spread: tuple[float, float]
    rho: float
    accuracy: float


@dataclass(frozen=True)
class DemoBench:
    """Both policies, measured in turns. speed_up: median of the repeats' ratios."""

    bundle: str
    samples: int
    repeats: int
    default: Side
    never: Side
    speed_up: float
    machine: dict[str, str | int]

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return asdict(self)

    def as_table(self) -> Table:
        """Return the figures as a table for a terminal."""
        table = Table(
            title=f"{self.bundle}: {self.samples} samples, {self.repeats} repeats in turns,"
            f" {self.machine['threads']} threads"
        )
        for column in ("policy", "requests/s", "least", "most", "rho", "accuracy"):
            table.add_column(column, justify="left" if column == "policy" else "right")
        for name, side in (("default", self.default), ("never", self.never)):
            least, most = side.spread
            table.add_row(
                name,
                f"{side.requests_per_second:.0f}",
                f"{least:.0f}",
                f"{most:.0f}",
                f"{side.rho:.3f}",
                f"{side.accuracy:.2%}",
            )
        table.caption = f"speed-up {self.speed_up:.2f}x"
        return table


def bench_demo(
    engine: Engine,
    samples: Sequence[LabelledSample],
    *,
    repeats: int = 5,
    progress: Callable[[], None] | None = None,
) -> DemoBench:
    """Measure a closed loop at saturation: all samples queued at once, inputs prepared before.

    One uncounted pass of each policy warms up; then the policies take turns, and each repeat gives
    one ratio, so that a machine whose speed drifts slows both sides alike.

    Args:
        engine: opened on the bundle, with its own exit policy.
        samples: what is asked.
        repeats: counted passes of each policy.
        progress: called after every pass.
    """
    inputs = [engine.prepare({"image": s.image, "text": s.text}) for s in samples]
    policies = {"default": engine.compile(engine.policy), "never": engine.compile(never())}
    rates: dict[str, list[float]] = {name: [] for name in policies}
    rho: dict[str, float] = {}
    accuracy: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, policy in policies.items():
            started_s = time.perf_counter()
            answers = answer_all(engine, inputs, policy)
            taken_s = time.perf_counter() - started_s
            if repeat:
                rates[name].append(len(samples) / taken_s)
            rho[name] = sum(a.exit_layer for a in answers) / sum(a.depth for a in answers)
            right = [a.label == s.label for a, s in zip(answers, samples, strict=True)]
            accuracy[name] = sum(right) / len(right)
            if progress:
                progress()
    ratios = [fast / slow for fast, slow in zip(rates["default"], rates["never"], strict=True)]
    sides = {
        name: Side(
            statistics.median(rates[name]),
            (min(rates[name]), max(rates[name])),
            rho[name],
            accuracy[name],
        )
        for name in policies
    }
    return DemoBench(
        bundle=engine.manifest.name,
        samples=len(samples),
        repeats=repeats,
        default=sides["default"],
        never=sides["never"],
        speed_up=statistics.median(ratios),
        machine={
            "threads": engine.config.compute_threads,
            "cores": os.cpu_count() or 0,
            "machine": platform.machine(),
            "python": platform.python_version(),
            "backend": engine.config.backend,
        },
    )
