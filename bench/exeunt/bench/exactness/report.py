"""What an exactness run found: the promises it saw broken, and a report."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from exeunt.bench.exactness.compare import Deviation, Promise, together
from exeunt.bench.exactness.schedule import Schedule, Served
from exeunt.bench.exactness.settings import ExactnessSettings
from exeunt.bench.report import Figure, Report, Sheet, command_line, now, this_machine

LARGEST_NUMBER = 1e300  # stands for an infinite difference, which JSON cannot hold


@dataclass(frozen=True)
class Pass:
    """A schedule, and what the samples were answered under it."""

    schedule: Schedule
    served: Served


@dataclass(frozen=True)
class Comparison:
    """Answers compared with sequential ones. name: of what they are compared with.

    deviations: one for each schedule, or a single one where none was involved.
    """

    name: str
    promise: Promise
    deviations: tuple[Deviation, ...]

    @property
    def total(self) -> Deviation:
        """All schedules' rows together."""
        return together(self.deviations)

    @property
    def broken(self) -> str | None:
        """How the promise was broken, in words; None where it was kept."""
        return self.total.broken(self.promise)


@dataclass(frozen=True)
class Exactness:
    """What a run found. broken: in words, each promise that was not kept."""

    report: Report
    broken: tuple[str, ...]


def summarise(
    settings: ExactnessSettings,
    comparisons: Sequence[Comparison],
    passes: Sequence[Pass],
    deterministic: bool,
) -> Exactness:
    """Return the report of a run.

    Args:
        settings: of the run.
        comparisons: everything that was compared.
        passes: in the order of the deviations.
        deterministic: whether the engine takes this layout under `deterministic: true`.
    """
    broken = tuple(f"against {one.name}: {one.broken}" for one in comparisons if one.broken)
    report = Report(
        created=now(),
        command=command_line(),
        measured=(
            f"exactness: {settings.backend} {settings.precision}, {settings.layout},"
            f" {settings.streams} streams, {settings.samples} samples under"
            f" {settings.schedules} random schedules"
        ),
        workload=settings.model_dump(mode="json"),
        machine=this_machine(settings.compute_threads),
        figures={
            name: figure for one in comparisons for name, figure in _figures(one, settings).items()
        },
        sheets=(_promises(comparisons, settings), _schedules(comparisons[0], passes)),
        details={
            "broken": list(broken),
            "deterministic_allows_layout": deterministic,
            "deviations": {
                one.name: [_as_json(deviation) for deviation in one.deviations]
                for one in comparisons
            },
        },
    )
    return Exactness(report, broken)


def _as_json(deviation: Deviation) -> dict[str, JsonValue]:
    return asdict(deviation) | {"largest": min(deviation.largest, LARGEST_NUMBER)}


def _figures(one: Comparison, settings: ExactnessSettings) -> dict[str, Figure]:
    def share(count: Callable[[Deviation], int]) -> list[float]:
        return [count(deviation) / deviation.rows for deviation in one.deviations]

    return {
        f"{one.name}: bit-equal": Figure.of(share(lambda d: d.bit_equal), "share", "higher"),
        f"{one.name}: within {settings.tolerance:g}": Figure.of(
            share(lambda d: d.within), "share", "higher"
        ),
        f"{one.name}: largest": Figure.of(
            (min(d.largest, LARGEST_NUMBER) for d in one.deviations), "", "lower"
        ),
        f"{one.name}: near": Figure.of(share(lambda d: d.near), "share", "lower"),
    }


def _promises(comparisons: Sequence[Comparison], settings: ExactnessSettings) -> Sheet:
    def row(one: Comparison) -> tuple[str | int | float, ...]:
        found = one.total
        kept = "none" if one.promise == "none" else "BROKEN" if one.broken else "kept"
        return (
            one.name,
            found.rows,
            found.bit_equal,
            found.within,
            min(found.largest, LARGEST_NUMBER),
            found.near,
            found.moved_near,
            found.moved_outside,
            kept,
        )

    return Sheet(
        title=(
            f"Rows whose bits are equal, whose logits are within {settings.tolerance:g}, near a"
            " threshold, and that left at another layer (of those near, of the others)"
        ),
        columns=(
            "against",
            "rows",
            "bits",
            "within",
            "largest",
            "near",
            "moved",
            "others",
            "promise",
        ),
        rows=tuple(row(one) for one in comparisons),
    )


def _schedules(first: Comparison, passes: Sequence[Pass]) -> Sheet:
    return Sheet(
        title=f"Random schedules, and rows whose bits are those of {first.name}",
        columns=("most rows", "least", "under way", "wait, s", "rows a batch", "bits"),
        rows=tuple(
            (
                one.schedule.limits["max_batch_rows"],
                one.schedule.limits["min_batch_rows"],
                one.schedule.limits["max_resident_rows"],
                one.schedule.limits["max_wait_s"],
                one.served.rows_per_batch,
                deviation.bit_equal,
            )
            for one, deviation in zip(passes, first.deviations, strict=True)
        ),
    )
