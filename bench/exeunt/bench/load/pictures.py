"""The charts and sheets of a load report."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from exeunt.bench.load.measure import Measurement
from exeunt.bench.load.runner import Measured
from exeunt.bench.load.sweep import Point
from exeunt.bench.report import Chart, Mark, Series, Sheet
from exeunt.bench.report.figures import Cell

Value = Callable[[Measurement], float | None]
QUANTILES = np.concatenate([np.linspace(0.0, 0.98, 99), np.linspace(0.982, 1.0, 10)])


def latency_chart(measured: Measured, slo_ms: float | None) -> Chart | None:
    """Return how many requests were answered within which latency, repeats taken together."""
    series = []
    for point, repeats in measured.items():
        pooled = np.concatenate([one.latencies_ms for one in repeats])
        requests = sum(one.requests for one in repeats)
        if len(pooled):
            x = np.quantile(pooled, QUANTILES).tolist()
            y = (QUANTILES * len(pooled) / requests).tolist()
            series.append(Series(name=point.policy, x=tuple(x), y=tuple(y)))
    if not series:
        return None
    return Chart(
        name="latency",
        title="Requests answered within a latency",
        kind="curves",
        x_label="latency (ms)",
        y_label="share of the requests",
        series=tuple(series),
        marks=(Mark(axis="x", at=slo_ms, label=f"SLO {slo_ms:g} ms"),) if slo_ms else (),
        log_x=True,
        share_y=True,
    )


def exits_chart(measured: Measured) -> Chart | None:
    """Return the share of the answers by exit layer, of each policy."""
    found: dict[str, Counter[int]] = {}
    for point, repeats in measured.items():
        for one in repeats:
            found.setdefault(point.policy, Counter()).update(one.exits)
    layers = sorted({layer for counts in found.values() for layer in counts})
    series = tuple(
        Series(
            name=policy,
            x=tuple(str(layer) for layer in layers),
            y=tuple(counts[layer] / counts.total() for layer in layers),
        )
        for policy, counts in found.items()
        if counts.total()
    )
    if not series:
        return None
    return Chart(
        name="exits",
        title="Where the answers left",
        kind="bars",
        x_label="exit layer",
        y_label="share of the answers",
        series=series,
        share_y=True,
    )


def rate_charts(
    measured: Measured, knees: Mapping[str, float], limit_ms: float | None, slo_ms: float | None
) -> list[Chart]:
    """Return a sweep's charts: latency over rate, and goodput where there is an SLO.

    Args:
        measured: the sweep's points.
        knees: each policy's, where it was found.
        limit_ms: what the knee's p99 is held to.
        slo_ms: the SLO.
    """
    limit = f"SLO {slo_ms:g} ms" if slo_ms else "limit of the knee"
    marks = [] if limit_ms is None else [Mark(axis="y", at=limit_ms, label=limit)]
    marks += [
        Mark(axis="x", at=rate, label=f"knee of {policy}", series=policy)
        for policy, rate in knees.items()
    ]
    charts = [
        _over_rate("p99", "p99 latency over rate", "p99 (ms)", measured, _p99, marks),
        _over_rate("p50", "Median latency over rate", "p50 (ms)", measured, _p50),
        _over_rate("mean", "Mean latency over rate", "mean (ms)", measured, _mean),
    ]
    if slo_ms is not None:
        label = f"answers within {slo_ms:g} ms a second"
        charts.append(
            _over_rate("goodput", "Goodput over rate", label, measured, lambda one: one.goodput)
        )
    return [chart for chart in charts if chart is not None]


def _p50(one: Measurement) -> float | None:
    return one.percentile_ms(50)


def _p99(one: Measurement) -> float | None:
    return one.percentile_ms(99)


def _mean(one: Measurement) -> float | None:
    return one.mean_ms


def _over_rate(
    name: str,
    title: str,
    y_label: str,
    measured: Measured,
    value: Value,
    marks: Sequence[Mark] = (),
) -> Chart | None:
    """Return a chart of one value over the rate; points with problems are hollow."""
    policies = list(dict.fromkeys(point.policy for point in measured))
    series = [_series(policy, measured, value) for policy in policies]
    if not any(y is not None for one in series for y in one.y):
        return None
    return Chart(
        name=f"{name}-over-rate",
        title=title,
        kind="lines",
        x_label="requests/s offered",
        y_label=y_label,
        series=tuple(series),
        marks=tuple(marks),
        log_y="(ms)" in y_label,
    )


def _series(policy: str, measured: Measured, value: Value) -> Series:
    # By the rate alone: two points may share one, and measurements have no order.
    points = sorted(
        (
            (point.rate, repeats)
            for point, repeats in measured.items()
            if point.policy == policy and point.rate is not None
        ),
        key=lambda rated: rated[0],
    )
    columns: list[tuple[float | None, float | None, float | None]] = []
    for _, repeats in points:
        found = [one for m in repeats if (one := value(m)) is not None]
        full = len(found) == len(repeats)
        columns.append(
            (statistics.median(found), min(found), max(found)) if full else (None, None, None)
        )
    return Series(
        name=policy,
        x=tuple(rate for rate, _ in points),
        y=tuple(column[0] for column in columns),
        low=tuple(column[1] for column in columns),
        high=tuple(column[2] for column in columns),
        hollow=tuple(
            place for place, (_, repeats) in enumerate(points) if any(m.problems for m in repeats)
        ),
    )


def rates_sheet(measured: Measured) -> Sheet:
    """Return medians at each rate of a sweep; goodput where there is an SLO."""
    columns: list[tuple[str, Callable[[Point, Sequence[Measurement]], Cell]]] = [
        ("policy", lambda point, _: point.policy),
        ("share", lambda point, _: _share_of(point)),
        ("offered", lambda point, _: point.rate),
        ("answered", lambda _, repeats: _median(repeats, lambda m: m.requests_per_second)),
        ("p50", lambda _, repeats: _median(repeats, _p50)),
        ("p99", lambda _, repeats: _median(repeats, _p99)),
        ("mean", lambda _, repeats: _median(repeats, _mean)),
        ("goodput", lambda _, repeats: _median(repeats, lambda m: m.goodput)),
        ("valid", lambda _, repeats: f"{sum(not m.problems for m in repeats)}/{len(repeats)}"),
    ]
    if all(one.goodput is None for repeats in measured.values() for one in repeats):
        columns = [column for column in columns if column[0] != "goodput"]
    return Sheet(
        title="Medians at each share of saturation: requests/s, ms, valid repeats",
        columns=tuple(name for name, _ in columns),
        rows=tuple(
            tuple(value(point, repeats) for _, value in columns)
            for point, repeats in measured.items()
        ),
    )


def errors_sheet(measured: Measured) -> Sheet | None:
    """Return the failed requests by type, over all repeats; None when none failed."""
    rows: list[tuple[Cell, ...]] = []
    for point, repeats in measured.items():
        counts: Counter[str] = Counter()
        for one in repeats:
            counts.update(one.errors)
        rows += [(point.policy, point.rate, kind, count) for kind, count in sorted(counts.items())]
    columns = ("policy", "offered", "error", "requests")
    return Sheet(title="Errors", columns=columns, rows=tuple(rows)) if rows else None


def generator_sheet(measured: Measured) -> Sheet:
    """Return what the load generator cost and how late it sent, the worst of the repeats."""
    rows: list[tuple[Cell, ...]] = []
    for point, repeats in measured.items():
        lags = [one.lag for one in repeats if one.lag is not None]
        rows.append(
            (
                point.policy,
                point.rate,
                100 * max(one.generator_share for one in repeats),
                max((lag.mean_ms for lag in lags), default=None),
                max((lag.p99_ms for lag in lags), default=None),
                max((lag.most_ms for lag in lags), default=None),
            )
        )
    columns = ("policy", "offered", "busy (%)", "late: mean", "late: p99", "late: most")
    title = "The load generator, the worst repeat: requests/s, ms"
    return Sheet(title=title, columns=columns, rows=tuple(rows))


def _share_of(point: Point) -> str:
    of = "" if point.of == point.policy else f" of {point.of}"
    return "" if point.share is None else f"{point.share:g}{of}"


def _median(repeats: Sequence[Measurement], value: Value) -> float | None:
    found = [one for m in repeats if (one := value(m)) is not None]
    return statistics.median(found) if len(found) == len(repeats) else None
