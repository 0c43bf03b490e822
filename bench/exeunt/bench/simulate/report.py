"""What simulations found, as a report that `exeunt bench compare` reads as well."""

from collections.abc import Iterable, Sequence

from pydantic import JsonValue

from exeunt.bench.load import Measurement
from exeunt.bench.load.figures_of import NO_ANSWER, Figures
from exeunt.bench.report import Report, Sheet, command_line, now, this_machine
from exeunt.bench.report.figures import Cell
from exeunt.bench.simulate.against import Pair
from exeunt.bench.simulate.batches import Count
from exeunt.bench.simulate.costs import CostFile
from exeunt.bench.simulate.settings import SimulationSettings
from exeunt.bench.simulate.simulate import Simulated, Workload

Reasons = dict[str, Count]
BUSY = 0.999  # from here on the engine never rested: an open loop has more load than it can serve

SIMULATED, PREDICTED, MEASURED = "simulated", "predicted", "measured"


def simulation_report(costs: CostFile, workload: Workload, repeats: Sequence[Simulated]) -> Report:
    """Return the report of simulated repeats."""
    figures = Figures()
    _add(figures, SIMULATED, repeats)
    return _report(
        f"simulated: {_describe(costs.name, workload.settings)}",
        costs,
        workload,
        figures,
        [_layers_sheet(costs, workload, repeats), _reasons_sheet(repeats)],
        _problems(costs, workload.settings, repeats),
    )


def comparison_report(pairs: Sequence[Pair], settings: SimulationSettings) -> Report:
    """Return the report of predictions beside measurements."""
    figures, last = Figures(), pairs[-1]
    workload, repeats = Workload(settings, last.costs), [pair.predicted for pair in pairs]
    _add(figures, PREDICTED, repeats)
    _add_load(figures, MEASURED, [pair.measured for pair in pairs])
    units = [pair.batch_units for pair in pairs]
    figures.add(f"{MEASURED}.batch_rows", units, "rows", "higher", "nothing ran")
    for name, value in _COMPARED:
        errors = [_error(value(p.predicted.measurement), value(p.measured)) for p in pairs]
        sizes = [None if error is None else abs(error) for error in errors]
        figures.add(f"error.{name}", sizes, "share", "lower", "nothing to compare")
    problems = _problems(last.costs, settings, repeats)
    problems += [
        f"repeat {place}, measured: {problem}"
        for place, pair in enumerate(pairs, 1)
        for problem in pair.measured.problems
    ]
    return _report(
        f"predicted and measured: {_describe(last.costs.name, settings)}",
        last.costs,
        workload,
        figures,
        [_pairs_sheet(pairs), _layers_sheet(last.costs, workload, repeats)],
        problems,
    )


def _mean(one: Measurement) -> float | None:
    return one.mean_ms


def _p50(one: Measurement) -> float | None:
    return one.percentile_ms(50)


def _p99(one: Measurement) -> float | None:
    return one.percentile_ms(99)


def _rate(one: Measurement) -> float | None:
    return one.requests_per_second


_COMPARED = (("requests_per_second", _rate), ("p50_ms", _p50), ("mean_ms", _mean), ("p99_ms", _p99))


def _error(predicted: float | None, measured: float | None) -> float | None:
    return predicted / measured - 1 if predicted is not None and measured else None


def _add(figures: Figures, side: str, repeats: Sequence[Simulated]) -> None:
    _add_load(figures, side, [one.measurement for one in repeats])
    busy = [one.log.utilisation for one in repeats]
    figures.add(f"{side}.utilisation", busy, "share", "lower", "nothing ran")
    fill = [_total(one.log.reasons.values()).fill for one in repeats]
    figures.add(f"{side}.batch_rows", fill, "rows", "higher", "nothing ran")


def _add_load(figures: Figures, side: str, repeats: Sequence[Measurement]) -> None:
    rates = [one.requests_per_second for one in repeats]
    figures.add(f"{side}.requests_per_second", rates, "requests/s", "higher", NO_ANSWER)
    figures.add_latencies(side, repeats)
    if any(one.goodput is not None for one in repeats):
        goodput = [one.goodput for one in repeats]
        figures.add(f"{side}.goodput", goodput, "requests/s", "higher", NO_ANSWER)
    errors = [one.error_share for one in repeats]
    figures.add(f"{side}.errors", errors, "share", "lower", NO_ANSWER)
    figures.add(f"{side}.rho", [one.rho for one in repeats], "", "lower", NO_ANSWER)


def _total(counts: Iterable[Count]) -> Count:
    total = Count()
    for count in counts:
        total.batches += count.batches
        total.rows += count.rows
        total.seconds += count.seconds
    return total


def _layers_sheet(costs: CostFile, workload: Workload, repeats: Sequence[Simulated]) -> Sheet:
    most = workload.settings.engine.max_batch_rows
    rows: list[tuple[Cell, ...]] = []
    for index, lane in enumerate(costs.lanes):
        for place, stage in enumerate(lane.stages):
            key = (index, place)
            count = _total(one.log.stages[key] for one in repeats if key in one.log.stages)
            took_ms = count.seconds / count.batches * 1e3 if count.batches else None
            share = count.fill / most if count.batches else None
            fill = count.fill if count.batches else None
            rows.append(
                (lane.name, stage.segment, stage.layer, count.batches, fill, share, took_ms)
            )
    columns = ("lane", "segment", "layer", "batches", "rows a batch", "of most", "ms a batch")
    return Sheet(title="Batches by layer, all repeats", columns=columns, rows=tuple(rows))


def _reasons_sheet(repeats: Sequence[Simulated]) -> Sheet:
    found = sorted({reason for one in repeats for reason in one.log.reasons})
    counts = {
        reason: _total(one.log.reasons[reason] for one in repeats if reason in one.log.reasons)
        for reason in found
    }
    whole_s = sum(count.seconds for count in counts.values())
    rows = tuple(
        (reason, count.batches, count.fill, count.seconds / whole_s if whole_s else 0.0)
        for reason, count in counts.items()
    )
    columns = ("reason", "batches", "rows a batch", "share of the busy time")
    return Sheet(title="Why each batch ran, all repeats", columns=columns, rows=rows)


def _pairs_sheet(pairs: Sequence[Pair]) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for place, pair in enumerate(pairs, 1):
        for name, value in _COMPARED:
            predicted, measured = value(pair.predicted.measurement), value(pair.measured)
            error = _error(predicted, measured)
            shown = None if error is None else f"{error:+.1%}"
            rows.append((place, name, predicted, measured, shown))
    columns = ("repeat", "figure", "predicted", "measured", "error")
    return Sheet(title="Predicted and measured", columns=columns, rows=tuple(rows))


def _problems(
    costs: CostFile, settings: SimulationSettings, repeats: Sequence[Simulated]
) -> list[str]:
    found = sorted({problem for one in repeats for problem in one.measurement.problems})
    most, known = settings.engine.max_batch_rows, costs.measured_rows
    if known is not None and most > known:
        found.append(
            f"batches of more than {known} rows were not measured: what {most} rows take is"
            " extrapolated; measure costs with that --max-batch-rows"
        )
    if settings.load.is_open and any(one.log.utilisation > BUSY for one in repeats):
        found.append(
            "the engine never rested: more requests come than it can serve, and latencies only say"
            " how long the queue was allowed to grow"
        )
    return found


def _report(
    measured: str,
    costs: CostFile,
    workload: Workload,
    figures: Figures,
    sheets: Sequence[Sheet],
    problems: Sequence[str],
) -> Report:
    return Report(
        created=now(),
        command=command_line(),
        measured=measured,
        workload=_workload(costs, workload),
        machine=this_machine(None),
        figures=figures.measured,
        not_measured=figures.not_measured,
        problems=tuple(problems),
        sheets=tuple(sheets),
        details={"costs": costs.model_dump(mode="json")},
    )


def _describe(name: str, settings: SimulationSettings) -> str:
    load = settings.load
    if not load.is_open:
        how = f"closed loop, {load.in_flight} in flight"
    elif load.trace_file is not None:
        how = f"open loop, arrivals of {load.trace_file.name}"
    else:
        how = f"open loop, {load.rate:g} requests/s, {load.arrivals} arrivals"
    return f"{name}, exits {settings.exits}: {how}, batches of {settings.engine.max_batch_rows}"


def _workload(costs: CostFile, workload: Workload) -> dict[str, JsonValue]:
    load, engine = workload.settings.load, workload.settings.engine
    chosen: dict[str, JsonValue] = load.model_dump(
        mode="json", include={"rate", "arrivals", "burstiness", "speed", "warm_up", "seed"}
    )
    if not load.is_open:
        chosen = {"in_flight": load.in_flight, "warm_up": load.warm_up, "seed": load.seed}
    sizes = (
        "max_batch_rows",
        "min_batch_rows",
        "max_wait_s",
        "latency_target_s",
        "max_queued_rows",
        "max_resident_rows",
    )
    return {
        "model": costs.name,
        "measured_on": dict(costs.setting),
        "exits": workload.settings.exits,
        "seconds": round(workload.seconds, 6),
        **chosen,
        "engine": engine.model_dump(mode="json", include=set(sizes)),
    }
