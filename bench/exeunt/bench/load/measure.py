"""From what a run saw to figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exeunt.bench.load.outcome import Outcome, Run

MIN_FOR_P99 = 100  # of fewer answers, the 99th percentile is their slowest
# Beyond these the figures say something of the generator rather than of the target.
MAX_LAG_SHARE = 0.1
LAG_FLOOR_MS = 0.5  # no sleeping thread wakes much more exactly on a machine that is in use
MAX_GENERATOR_SHARE = 0.9


@dataclass(frozen=True)
class Lag:
    """By how much sending came after the scheduled time, in milliseconds."""

    mean_ms: float
    p99_ms: float
    most_ms: float


@dataclass(frozen=True)
class Measurement:
    """Figures of one run. What needs an answer is None where there was none.

    offered: requests/s sent (closed) or scheduled (open) in the window. requests_per_second:
    answers that came in the window, by its seconds. latencies_ms: float64 [N], ascending, of the
    answers. goodput: answers within the SLO a second; None without an SLO. errors: requests that
    failed, by type. rho: layers run / layers possible over all lanes (UNITER-MSD, Eq. 19). exits:
    answers by the answering lane's exit layer. accuracy: None where no sample has a label. indices:
    of the last answer to each sample. problems: why the figures are not to be trusted.
    """

    requests: int
    answered: int
    offered: float
    requests_per_second: float
    latencies_ms: NDArray[np.float64] = field(repr=False)
    goodput: float | None
    errors: dict[str, int]
    rho: float | None
    exits: dict[int, int]
    accuracy: float | None
    indices: dict[int, int] = field(repr=False)
    lag: Lag | None
    generator_share: float
    problems: tuple[str, ...]

    @property
    def mean_ms(self) -> float | None:
        """The answers' mean latency."""
        return float(self.latencies_ms.mean()) if len(self.latencies_ms) else None

    @property
    def error_share(self) -> float:
        """Requests that failed, by those that were sent."""
        return sum(self.errors.values()) / self.requests if self.requests else 0.0

    def percentile_ms(self, percent: float) -> float | None:
        """Return a percentile of the answers' latency, interpolated between neighbours."""
        return float(np.percentile(self.latencies_ms, percent)) if len(self.latencies_ms) else None

    def share_within(self, limit_ms: float) -> float:
        """Return the share of all requests that were answered within a limit: an error was not."""
        within = np.searchsorted(self.latencies_ms, limit_ms, side="right")
        return float(within) / self.requests if self.requests else 0.0


def measure(run: Run, labels: Sequence[str | None], slo_ms: float | None = None) -> Measurement:
    """Return a run's figures; the warm-up is left out.

    A closed loop is measured over the requests that ended in the window, an open loop over those
    that were scheduled in it, however late they ended.

    Args:
        run: what was seen.
        labels: each sample's right answer, None where it has none.
        slo_ms: the latency that goodput counts up to.
    """
    end_s = run.warm_up_s + run.seconds
    ended_in_window = [o for o in run.outcomes if run.warm_up_s <= o.done_s < end_s]
    if run.open_loop:
        counted = [o for o in run.outcomes if run.warm_up_s <= o.scheduled_s < end_s]
    else:
        counted = ended_in_window
    answered = [o for o in counted if o.reading is not None]
    latencies_ms = np.sort(np.array([o.latency_s for o in answered])) * 1e3
    within = None if slo_ms is None else int(np.searchsorted(latencies_ms, slo_ms, side="right"))
    lag = _lag(counted) if run.open_loop and counted else None
    return Measurement(
        requests=len(counted),
        answered=len(answered),
        offered=len(counted) / run.seconds,
        requests_per_second=sum(o.reading is not None for o in ended_in_window) / run.seconds,
        latencies_ms=latencies_ms,
        goodput=None if within is None else within / run.seconds,
        errors=dict(sorted(Counter(o.error for o in counted if o.error is not None).items())),
        rho=_rho(answered),
        exits=_exits(answered),
        accuracy=_accuracy(answered, labels),
        indices={o.sample: o.reading.index for o in answered if o.reading is not None},
        lag=lag,
        generator_share=run.generator_share,
        problems=tuple(_problems(run, latencies_ms, lag)),
    )


def agreement(one: Measurement, full_depth: Measurement) -> float | None:
    """Return the share of samples that both runs answered, and answered alike; None for none."""
    both = one.indices.keys() & full_depth.indices.keys()
    alike = sum(one.indices[sample] == full_depth.indices[sample] for sample in both)
    return alike / len(both) if both else None


def _lag(counted: Sequence[Outcome]) -> Lag:
    late_ms = np.array([max(0.0, o.sent_s - o.scheduled_s) for o in counted]) * 1e3
    return Lag(float(late_ms.mean()), float(np.percentile(late_ms, 99)), float(late_ms.max()))


def _rho(answered: Sequence[Outcome]) -> float | None:
    readings = [o.reading for o in answered if o.reading is not None]
    possible = sum(reading.layers_possible for reading in readings)
    return sum(reading.layers_run for reading in readings) / possible if possible else None


def _exits(answered: Sequence[Outcome]) -> dict[int, int]:
    found = Counter(o.reading.exit_layer for o in answered if o.reading is not None)
    depth = max((o.reading.depth for o in answered if o.reading is not None), default=0)
    return {layer: found.get(layer, 0) for layer in range(min(1, depth), depth + 1)}


def _accuracy(answered: Sequence[Outcome], labels: Sequence[str | None]) -> float | None:
    right = [
        o.reading.label == labels[o.sample]
        for o in answered
        if o.reading is not None and labels[o.sample] is not None
    ]
    return sum(right) / len(right) if right else None


def _problems(run: Run, latencies_ms: NDArray[np.float64], lag: Lag | None) -> list[str]:
    """Return what makes a run's figures worthless, in words."""
    found = [f"the run was cut short: {run.gave_up}"] if run.gave_up else []
    if 0 < len(latencies_ms) < MIN_FOR_P99:
        found.append(
            f"only {len(latencies_ms)} answers: a p99 needs {MIN_FOR_P99}, so measure longer"
        )
    if run.generator_share > MAX_GENERATOR_SHARE:
        found.append(
            f"the load generator was busy for {run.generator_share:.0%} of the time: it was the"
            " bottleneck"
        )
    if lag is not None and len(latencies_ms):
        pairs = (
            ("mean", lag.mean_ms, float(latencies_ms.mean())),
            ("p99", lag.p99_ms, float(np.percentile(latencies_ms, 99))),
        )
        found += [
            f"the load generator was the bottleneck: it sent late by {late_ms:.3g} ms ({name}) of"
            f" a latency of {latency_ms:.3g} ms"
            for name, late_ms, latency_ms in pairs
            if late_ms > max(LAG_FLOOR_MS, MAX_LAG_SHARE * latency_ms)
        ]
    return found
