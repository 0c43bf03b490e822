"""From repeated measurements to a report's figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from exeunt.bench.load.measure import Measurement, agreement
from exeunt.bench.report import Figure
from exeunt.bench.report.figures import Better

Repeats = Sequence[Measurement]
NO_ANSWER = "a repeat had no answer"
LATENCIES: tuple[tuple[str, Callable[[Measurement], float | None]], ...] = (
    ("p50_ms", lambda one: one.percentile_ms(50)),
    ("p95_ms", lambda one: one.percentile_ms(95)),
    ("p99_ms", lambda one: one.percentile_ms(99)),
    ("mean_ms", lambda one: one.mean_ms),
)


@dataclass
class Figures:
    """Figures by name, and the reasons for those that could not be had."""

    measured: dict[str, Figure] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def add(
        self, name: str, repeats: Sequence[float | None], unit: str, better: Better, lacking: str
    ) -> None:
        """Add a figure, or `lacking` where any repeat has no value."""
        values = [value for value in repeats if value is not None]
        if len(values) == len(repeats) and values:
            self.measured[name] = Figure.of(values, unit, better)
        else:
            self.not_measured[name] = lacking

    def add_side(self, policy: str, repeats: Repeats) -> None:
        """Add what is measured of one policy."""
        rates = [one.requests_per_second for one in repeats]
        self.add(f"{policy}.requests_per_second", rates, "requests/s", "higher", NO_ANSWER)
        self.add_latencies(policy, repeats)
        if any(one.goodput is not None for one in repeats):
            goodput = [one.goodput for one in repeats]
            self.add(f"{policy}.goodput", goodput, "requests/s", "higher", NO_ANSWER)
        errors = [one.error_share for one in repeats]
        self.add(f"{policy}.errors", errors, "share", "lower", NO_ANSWER)
        self.add(f"{policy}.rho", [one.rho for one in repeats], "", "lower", NO_ANSWER)
        accuracy = [one.accuracy for one in repeats]
        self.add(f"{policy}.accuracy", accuracy, "share", "higher", "no answer has a known label")

    def add_latencies(self, policy: str, repeats: Repeats, where: str = "") -> None:
        """Add a policy's latencies. where: is put behind the figures' names."""
        for name, value in LATENCIES:
            values = [value(one) for one in repeats]
            self.add(f"{policy}.{name}{where}", values, "ms", "lower", NO_ANSWER)

    def add_agreement(self, exiting: Repeats, full_depth: Repeats) -> None:
        """Add how often the exiting policy answers as full depth does."""
        values = [agreement(one, full) for one, full in zip(exiting, full_depth, strict=True)]
        self.add("default.agreement", values, "share", "higher", "no sample was answered by both")

    def add_speed_up(self, exiting: Repeats, full_depth: Repeats) -> None:
        """Add the ratio of requests/s, repeat by repeat."""
        pairs = zip(exiting, full_depth, strict=True)
        ratios = [_ratio(one.requests_per_second, full.requests_per_second) for one, full in pairs]
        self.add("speed_up", ratios, "x", "higher", NO_ANSWER)

    def add_latency_ratios(self, exiting: Repeats, full_depth: Repeats, where: str = "") -> None:
        """Add the ratios of the exiting policy's latencies to full depth's, repeat by repeat."""
        for name, value in LATENCIES:
            pairs = zip(exiting, full_depth, strict=True)
            ratios = [_ratio(value(one), value(full)) for one, full in pairs]
            short = name.removesuffix("_ms")
            self.add(f"{short}_ratio{where}", ratios, "x", "lower", NO_ANSWER)


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
