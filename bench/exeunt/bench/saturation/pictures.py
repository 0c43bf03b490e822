"""A saturation run as a report with charts."""

import json
from collections.abc import Iterable, Iterator, Mapping

from exeunt.bench.report import Chart, Figure, Mark, Report, Series, Sheet, command_line, now
from exeunt.bench.report.machine import this_machine
from exeunt.bench.report.shown import shown
from exeunt.bench.saturation.engine_peer import EnginePeer
from exeunt.bench.saturation.report import SaturationReport

PARTS = {
    "segment": "layers",
    "head": "exit heads",
    "stack": "stack",
    "gather": "gather",
    "judge": "judge",
    "keep": "keep",
    "route": "route",
    "schedule": "schedule",
}
STANDING_SIDE_BY_SIDE, NARROW = 4, 3  # bars, and the characters of their names
_KEPT = {"exits", "hidden", "layers", "lengths", "backend", "precision", "streams", "batch_rows"}


def full_report(found: SaturationReport) -> Report:
    """Return the run's report, which `write_report` writes and `exeunt bench compare` reads."""
    settings = found.settings
    figures = found.figures()
    for name, peer in found.peers.items():
        figures[f"{name}.requests_per_second"] = peer.requests_per_second
        figures[f"exeunt_over.{name}"] = peer.speed_up
    undefined = {
        "phi": "so little can leave early that it would be noise",
        "phi_b": "so little can leave early that it would be noise",
        "loss_at_zero_exits": "is measured with exits `last`",
    }
    return Report(
        created=now(),
        command=command_line(),
        measured=(
            f"uniter-base at saturation, H {settings.hidden}, exits {settings.exits},"
            f" {settings.backend} {settings.precision}, {settings.streams} streams"
        ),
        workload={
            "model": "uniter-base",
            **settings.model_dump(mode="json", include={*_KEPT, "seed"}),
            "samples": settings.counted,
        },
        machine=this_machine(settings.compute_threads),
        figures=figures,
        not_measured={name: why for name, why in undefined.items() if name not in figures},
        sheets=(_contenders(found), _memory(found), _search(found)),
        charts=tuple(_charts(found)),
        details=json.loads(json.dumps(found.as_json())),
    )


def _charts(found: SaturationReport) -> Iterator[Chart]:
    rates = {name: peer.requests_per_second for name, peer in found.peers.items()}
    yield Chart(
        name="requests-per-second",
        title="Requests per second",
        kind="bars",
        x_label="",
        y_label="requests/s",
        series=(_spread({EnginePeer.name: found.requests_per_second, **rates}),),
    )
    yield Chart(
        name="speed-up",
        title="Speed-up of exeunt over",
        kind="bars",
        x_label="",
        y_label="requests/s of exeunt / of the other",
        series=(_spread({name: peer.speed_up for name, peer in found.peers.items()}),),
        marks=(Mark(axis="y", at=1.0, label=""),),
    )
    yield _shares(
        "exits",
        "Where the answers left",
        "exit layer",
        "share of the answers",
        {str(layer): share for layer, share in enumerate(found.exit_shares, 1)},
    )
    yield _shares(
        "batch-fill",
        f"Batch fill by layer, of {found.settings.batch_rows} rows",
        "layer (0: before the first)",
        "rows / rows of a full batch",
        {str(layer): fill.median for layer, fill in found.batch_fill.items()},
    )
    yield _shares(
        "step",
        "Where a step's time goes",
        "part of the step",
        "share of the step",
        {label: found.step_shares[part] for part, label in PARTS.items()},
    )


def _spread(figures: Mapping[str, Figure]) -> Series:
    return Series(
        name="median",
        x=_staggered(figures),
        y=tuple(figure.median for figure in figures.values()),
        low=tuple(figure.least for figure in figures.values()),
        high=tuple(figure.most for figure in figures.values()),
    )


def _staggered(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of bars, every other one a line lower where short ones would still touch."""
    found = tuple(names)
    if len(found) <= STANDING_SIDE_BY_SIDE or max(map(len, found)) <= NARROW:
        return found
    return tuple(f"\n{name}" if place % 2 else name for place, name in enumerate(found))


def _shares(name: str, title: str, x_label: str, y_label: str, shares: dict[str, float]) -> Chart:
    return Chart(
        name=name,
        title=title,
        kind="bars",
        x_label=x_label,
        y_label=y_label,
        series=(Series(name="median", x=_staggered(shares), y=tuple(shares.values())),),
        share_y=True,
    )


def _contenders(found: SaturationReport) -> Sheet:
    settings = found.settings
    own = f"batch_rows {settings.batch_rows}, streams {settings.streams}"
    rows = [(EnginePeer.name, found.requests_per_second.median, 1.0, found.rho, own)]
    rows += [
        (
            name,
            peer.requests_per_second.median,
            peer.speed_up.median,
            peer.rho,
            ", ".join(f"{key} {value}" for key, value in peer.settings.items()),
        )
        for name, peer in found.peers.items()
    ]
    columns = ("contender", "requests/s", "exeunt is (x)", "rho", "settings")
    return Sheet(title="Contenders", columns=columns, rows=tuple(rows))


def _memory(found: SaturationReport) -> Sheet:
    """Return the one figure that a run has once: as a figure it would be compared over repeats."""
    peak = shown(found.peak_memory_bytes, "bytes")
    of = "engine, baseline and peers in its process"
    return Sheet(title="Memory", columns=("of", "peak"), rows=((of, peak),))


def _search(found: SaturationReport) -> Sheet:
    return Sheet(
        title="Tried for full depth",
        columns=("setting", "requests/s"),
        rows=tuple((name, 1 / seconds) for name, seconds in found.tried.items()),
    )
