"""`exeunt bench load`: from settings to a report."""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from exeunt.bench.load.figures_of import Figures
from exeunt.bench.load.measure import Measurement
from exeunt.bench.load.opening import Opened
from exeunt.bench.load.pictures import (
    errors_sheet,
    exits_chart,
    generator_sheet,
    latency_chart,
    rate_charts,
    rates_sheet,
)
from exeunt.bench.load.runner import Measured, Progress, Runner
from exeunt.bench.load.settings import SWEEP, LoadSettings, Policy
from exeunt.bench.load.sweep import (
    COMMON_SHARE,
    KNEE_WITHIN,
    Point,
    knee,
    low_load_limit_ms,
    plan_points,
)
from exeunt.bench.report import Chart, Report, Sheet, command_line, now, this_machine

COMMON = f"@{COMMON_SHARE:g}"
_DESCRIBES = ("data", "samples", "over", "policy", "slo_ms", "warm_up", "seed")


def runs_of(settings: LoadSettings) -> int:
    """Return how many runs a bench consists of."""
    sides = len(settings.policies)
    points = sides
    if settings.rate == SWEEP:
        points = sides + sides * len(settings.shares)
        if sides > 1:
            points += 1 if COMMON_SHARE in settings.shares else 2
    return points * settings.repeats


def bench_load(settings: LoadSettings, opened: Opened, progress: Progress | None = None) -> Report:
    """Measure what was opened.

    Args:
        settings: what to measure.
        opened: of `open_targets`.
        progress: called before each run with what it is.

    Returns:
        The report. Its `problems` say which runs are not to be trusted.

    Raises:
        ConfigError: the settings' trace cannot be used.
    """
    load_before = os.getloadavg()
    runner = Runner(opened.targets, opened.labels, settings, progress)
    figures = Figures()
    details: dict[str, JsonValue] = {}
    if settings.rate == SWEEP:
        measured, charts, sheets = _sweep(settings, runner, figures, details)
    else:
        measured, charts, sheets = _one_load(settings, runner, figures)
    exits = exits_chart(measured)
    errors = errors_sheet(measured)
    return Report(
        created=now(),
        command=command_line(),
        measured=_describe(settings, opened),
        workload=_workload(settings, opened, runner),
        machine=this_machine(opened.threads),
        figures=figures.measured,
        not_measured=figures.not_measured,
        problems=tuple(_problems(measured)),
        sheets=(*sheets, *([errors] if errors else []), generator_sheet(measured)),
        charts=(*charts, *([exits] if exits else [])),
        details={
            **details,
            "runs": [
                _run_record(point, repeat, one)
                for point, repeats in measured.items()
                for repeat, one in enumerate(repeats)
            ],
            "peak_memory_bytes": opened.memory_bytes(),
            "load_average_before": list(load_before),
        },
    )


def _one_load(
    settings: LoadSettings, runner: Runner, figures: Figures
) -> tuple[Measured, list[Chart], list[Sheet]]:
    """Measure one load: a closed loop, a rate or a trace."""
    if settings.is_open:
        rate = settings.rate if isinstance(settings.rate, float) else None
        measured = runner.replay([Point(policy, rate) for policy in settings.policies])
    else:
        measured = runner.saturate()
    sides = {point.policy: repeats for point, repeats in measured.items()}
    _add_sides(settings, figures, sides)
    if len(sides) > 1:
        if not settings.is_open:
            figures.add_speed_up(sides["default"], sides["never"])
        figures.add_latency_ratios(sides["default"], sides["never"])
    latency = latency_chart(measured, settings.slo_ms)
    return measured, [latency] if latency else [], []


def _sweep(
    settings: LoadSettings, runner: Runner, figures: Figures, details: dict[str, JsonValue]
) -> tuple[Measured, list[Chart], list[Sheet]]:
    """Measure saturation, then each share of it, and find the knees."""
    saturated = runner.saturate()
    sides = {point.policy: repeats for point, repeats in saturated.items()}
    saturation: dict[Policy, float] = {}
    for policy, repeats in sides.items():
        rates = [one.requests_per_second for one in repeats]
        figures.add(f"{policy}.saturation", rates, "requests/s", "higher", "no answer")
        if min(rates) <= 0:
            raise _nothing_answered(policy, repeats)
        saturation[policy] = figures.measured[f"{policy}.saturation"].median
        figures.add(f"{policy}.rho", [m.rho for m in repeats], "", "lower", "no answer")
        accuracy = [m.accuracy for m in repeats]
        figures.add(f"{policy}.accuracy", accuracy, "share", "higher", "no label is known")
    swept = runner.replay(plan_points(saturation, settings.shares))
    limit_ms = settings.slo_ms or low_load_limit_ms(swept[_lowest(settings, swept)])
    details["knee"] = {"limit_ms": limit_ms, "share_within": KNEE_WITHIN}
    knees = _add_knees(figures, settings, swept, limit_ms)
    if len(sides) > 1:
        if settings.exits is None:
            figures.add_agreement(sides["default"], sides["never"])
        figures.add_speed_up(sides["default"], sides["never"])
        _add_common(figures, swept)
    charts = rate_charts(swept, knees, limit_ms, settings.slo_ms)
    return {**saturated, **swept}, charts, [rates_sheet(swept)]


def _lowest(settings: LoadSettings, swept: Measured) -> Point:
    baseline = settings.policies[-1]
    return next(p for p in swept if p.policy == baseline and p.share == settings.shares[0])


def _nothing_answered(policy: Policy, repeats: list[Measurement]) -> Exception:
    from exeunt.engine.errors import ConfigError

    kinds = sorted({kind for one in repeats for kind in one.errors}) or ["the window was too short"]
    return ConfigError(
        f"policy {policy} answered nothing at saturation ({', '.join(kinds)}): lower --in-flight,"
        " or raise --seconds"
    )


def _add_sides(
    settings: LoadSettings, figures: Figures, sides: Mapping[Policy, list[Measurement]]
) -> None:
    for policy, repeats in sides.items():
        figures.add_side(policy, repeats)
    if len(sides) > 1 and settings.exits is None:  # drawn exits say nothing of answers
        figures.add_agreement(sides["default"], sides["never"])


def _add_knees(
    figures: Figures, settings: LoadSettings, swept: Measured, limit_ms: float | None
) -> dict[str, float]:
    """Add each policy's knee, repeat by repeat; return the medians."""
    found: dict[str, float] = {}
    for policy in settings.policies:
        climb = [(p.rate, swept[p]) for p in swept if p.policy == policy and p.of == policy]
        repeats = [
            knee([(rate, each[repeat]) for rate, each in climb if rate is not None], limit_ms)
            if limit_ms is not None
            else None
            for repeat in range(settings.repeats)
        ]
        name = f"{policy}.knee"
        reason = "at the lowest rate already, in some repeat, requests were too late or not valid"
        figures.add(name, repeats, "requests/s", "higher", reason)
        if name in figures.measured:
            found[policy] = figures.measured[name].median
    return found


def _add_common(figures: Figures, swept: Measured) -> None:
    """Add latencies at the rate that both policies share."""
    sides = {point.policy: repeats for point, repeats in swept.items() if point.is_common}
    for policy, repeats in sides.items():
        figures.add_latencies(policy, repeats, COMMON)
    figures.add_latency_ratios(sides["default"], sides["never"], COMMON)


def _problems(measured: Measured) -> list[str]:
    found = []
    for point, repeats in measured.items():
        wrong = [one for one in repeats if one.problems]
        if wrong:
            at = "" if point.rate is None else f" at {point.rate:.0f} requests/s"
            which = f"{len(wrong)} of {len(repeats)} repeats"
            found.append(f"{point.policy}{at}, {which}: {wrong[0].problems[0]}")
    return found


def _describe(settings: LoadSettings, opened: Opened) -> str:
    if not settings.is_open:
        load = f"closed loop, {settings.in_flight} in flight"
    elif settings.trace_file is not None:
        load = f"open loop, arrivals of {settings.trace_file.name}"
    elif settings.rate == SWEEP:
        load = f"{settings.arrivals} arrivals swept to saturation"
    else:
        load = f"open loop, {settings.rate:g} requests/s, {settings.arrivals} arrivals"
    over = "in process" if settings.over == "engine" else "over HTTP"
    data = settings.data if settings.exits is None else f"drawn exits ({settings.exits})"
    return f"{opened.model} on {data}: {load}, {over}"


def _workload(settings: LoadSettings, opened: Opened, runner: Runner) -> dict[str, JsonValue]:
    chosen = settings.model_dump(mode="json", include=set(_DESCRIBES))
    arrivals: dict[str, Any] = {"loop": "open" if settings.is_open else "closed"}
    if settings.is_open:
        arrivals |= {
            "rate": settings.rate,
            "arrivals": settings.arrivals,
            "burstiness": settings.burstiness,
            "speed": settings.speed,
        }
    if not settings.is_open or settings.rate == SWEEP:
        arrivals["in_flight"] = settings.in_flight
    return {
        "model": opened.model,
        **chosen,
        "samples": len(opened.labels),
        "seconds": round(runner.seconds, 6),
        **arrivals,
        **opened.setting,
    }


def _run_record(point: Point, repeat: int, one: Measurement) -> dict[str, JsonValue]:
    lag: JsonValue = None
    if one.lag is not None:
        lag = {"mean_ms": one.lag.mean_ms, "p99_ms": one.lag.p99_ms, "most_ms": one.lag.most_ms}
    return {
        "policy": point.policy,
        "rate": point.rate,
        "share": point.share,
        "repeat": repeat,
        "valid": not one.problems,
        "problems": list(one.problems),
        "requests": one.requests,
        "offered": one.offered,
        "answered": one.answered,
        "requests_per_second": one.requests_per_second,
        "p50_ms": one.percentile_ms(50),
        "p95_ms": one.percentile_ms(95),
        "p99_ms": one.percentile_ms(99),
        "mean_ms": one.mean_ms,
        "goodput": one.goodput,
        "errors": dict(one.errors),
        "exits": {str(layer): count for layer, count in one.exits.items()},
        "rho": one.rho,
        "accuracy": one.accuracy,
        "lag": lag,
        "generator_share": one.generator_share,
    }
