"""What a run over HTTP found."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from exeunt.bench.http_peers.contenders import Contender
from exeunt.bench.http_peers.environment import framework_version
from exeunt.bench.http_peers.prepare import Prepared
from exeunt.bench.http_peers.running import Sighting
from exeunt.bench.http_peers.settings import HttpSettings
from exeunt.bench.http_peers.tuning import Tuning
from exeunt.bench.load.figures_of import NO_ANSWER, Figures
from exeunt.bench.report import Report, Sheet, command_line, now, this_machine

BEST, ONE_LENGTH, FULL, PLAIN = (
    "exeunt",
    "exeunt-one-length",
    "exeunt-full-depth",
    "exeunt-plain",
)
# Each factor as one server over another that differs in this alone. The first four multiply to
# exeunt / litserve.
FACTORS: dict[str, tuple[str, str, str]] = {
    "framework": (PLAIN, "litserve", "float32, full depth, both padded to one length"),
    "backend_and_precision": (FULL, PLAIN, "our server, full depth, one length"),
    "exits": (ONE_LENGTH, FULL, "our server, one backend, precision and length"),
    "text_lengths": (BEST, ONE_LENGTH, "our server, one backend and precision, exits"),
    "exits_against_litserve": (
        ONE_LENGTH,
        "litserve-best",
        "one backend and precision, padded alike",
    ),
    "precision_in_litserve": ("litserve-best", "litserve", "LitServe, full depth"),
}
ENOUGH_AGREEMENT = 0.99  # of bf16 with float32 at full depth


@dataclass
class Seen:
    """What was seen of one contender.

    tried: answers/s in the search. answers: the index of every request's answer.
    """

    contender: Contender
    tuning: Tuning
    tried: dict[Tuning, float]
    answers: list[int]
    sightings: list[Sighting] = field(default_factory=list)

    @property
    def rates(self) -> list[float | None]:
        """Answers/s, repeat by repeat."""
        return [sighting.rate for sighting in self.sightings]


def make_report(
    settings: HttpSettings,
    prepared: Prepared,
    seen: Mapping[str, Seen],
    not_measured: Mapping[str, str],
) -> Report:
    """Return the report of a run.

    Args:
        settings: what was measured.
        prepared: what it was measured with.
        seen: by contender.
        not_measured: the reason for each peer that could not be measured.
    """
    figures = Figures()
    for name, one in seen.items():
        _add_side(figures, name, one)
    for name in settings.peers:
        _add_ratio(figures, f"exeunt_over.{name}", BEST, name, seen, not_measured)
    for factor, (over, under, _) in FACTORS.items():
        _add_ratio(figures, f"factor.{factor}", over, under, seen, not_measured)
    agreement = _agreement(seen)
    for name, share in agreement.items():
        figures.add(f"{name}.agreement", [share], "share", "higher", NO_ANSWER)
    return Report(
        created=now(),
        command=command_line(),
        measured=f"uniter-patches, H {settings.hidden}, exits {settings.exits}, over HTTP",
        workload=_workload(settings),
        machine=this_machine(settings.compute_threads),
        figures=figures.measured,
        not_measured={**figures.not_measured},
        problems=tuple(_problems(seen, agreement)),
        sheets=(_servers_sheet(seen), _factors_sheet(figures), _search_sheet(seen)),
        details=_details(prepared, seen, not_measured),
    )


def _add_side(figures: Figures, name: str, one: Seen) -> None:
    measured = [sighting.measured for sighting in one.sightings]
    figures.add(f"{name}.requests_per_second", one.rates, "requests/s", "higher", NO_ANSWER)
    figures.add_latencies(name, measured)
    if one.contender.exits:
        figures.add(f"{name}.rho", [m.rho for m in measured], "", "lower", NO_ANSWER)
    errors = [m.error_share for m in measured]
    figures.add(f"{name}.errors", errors, "share", "lower", NO_ANSWER)
    client = [sighting.client_share for sighting in one.sightings]
    server = [sighting.server_share for sighting in one.sightings]
    figures.add(f"{name}.client_cpu", client, "cores", "lower", NO_ANSWER)
    figures.add(f"{name}.server_cpu", server, "cores", "lower", NO_ANSWER)
    memory = [float(sighting.memory_bytes) for sighting in one.sightings]
    figures.add(f"{name}.memory", memory, "bytes", "lower", NO_ANSWER)


def _add_ratio(
    figures: Figures,
    figure: str,
    one: str,
    other: str,
    seen: Mapping[str, Seen],
    not_measured: Mapping[str, str],
) -> None:
    """Add the ratio of two servers' rates, repeat by repeat."""
    lacking = [name for name in (one, other) if name not in seen]
    if lacking:
        figures.not_measured[figure] = not_measured.get(
            lacking[0], f"{lacking[0]} was not asked for"
        )
        return
    pairs = zip(seen[one].rates, seen[other].rates, strict=True)
    ratios = [a / b if a and b else None for a, b in pairs]
    figures.add(figure, ratios, "x", "higher", NO_ANSWER)


def _agreement(seen: Mapping[str, Seen]) -> dict[str, float]:
    """Return the share of requests that each server answers as float32 at full depth does."""
    reference = seen[PLAIN].answers
    return {
        name: sum(a == b for a, b in zip(one.answers, reference, strict=True)) / len(reference)
        for name, one in seen.items()
        if name != PLAIN
    }


def _problems(seen: Mapping[str, Seen], agreement: Mapping[str, float]) -> list[str]:
    found = []
    for name, one in seen.items():
        wrong = [s.measured.problems[0] for s in one.sightings if s.measured.problems]
        found += (
            [f"{name}, {len(wrong)} of {len(one.sightings)} repeats: {wrong[0]}"] if wrong else []
        )
        if any(s.measured.errors for s in one.sightings):
            found.append(f"{name}: requests failed: {one.sightings[-1].measured.errors}")
        if one.contender.exits or name == PLAIN:
            continue
        needed = ENOUGH_AGREEMENT if one.contender.precision == "bf16" else 1.0
        if agreement[name] < needed:
            found.append(
                f"{name} answers {agreement[name]:.2%} of the requests as float32 does at full"
                f" depth, {needed:.0%} were expected"
            )
    return found


def _servers_sheet(seen: Mapping[str, Seen]) -> Sheet:
    rows = []
    for name, one in seen.items():
        contender, tuning = one.contender, one.tuning
        rhos = [s.measured.rho for s in one.sightings if s.measured.rho is not None]
        rows.append(
            (
                name,
                framework_version(contender.framework) if contender.framework else "exeunt",
                f"{contender.backend} {contender.precision}",
                tuning.batch_rows,
                "" if tuning.batch_timeout_s is None else f"{tuning.batch_timeout_s:g}",
                tuning.in_flight,
                round(statistics.median(rhos), 3) if contender.exits and rhos else 1.0,
                round(statistics.median(s.server_share for s in one.sightings), 2),
                round(statistics.median(s.client_share for s in one.sightings), 2),
            )
        )
    columns = ("server", "of", "runs", "batch", "time-out, s", "in flight", "rho")
    return Sheet(
        title="Servers; CPU in cores",
        columns=(*columns, "server CPU", "client CPU"),
        rows=tuple(rows),
    )


def _factors_sheet(figures: Figures) -> Sheet:
    rows = [
        (
            factor,
            f"{one} / {other}",
            what,
            round(figures.measured[f"factor.{factor}"].median, 3)
            if f"factor.{factor}" in figures.measured
            else None,
        )
        for factor, (one, other, what) in FACTORS.items()
    ]
    title = "Factors, each alone; the first four multiply to exeunt / litserve"
    return Sheet(title=title, columns=("factor", "is", "with", "x"), rows=tuple(rows))


def _search_sheet(seen: Mapping[str, Seen]) -> Sheet:
    rows = [
        (name, str(tuning), round(rate, 1))
        for name, one in seen.items()
        for tuning, rate in one.tried.items()
    ]
    return Sheet(title="Tried", columns=("server", "with", "requests/s"), rows=tuple(rows))


def _workload(settings: HttpSettings) -> dict[str, JsonValue]:
    kept = {"exits", "hidden", "layers", "requests", "seconds", "seed"}
    return {"model": "uniter-patches", **settings.model_dump(mode="json", include=kept)}


def _details(
    prepared: Prepared, seen: Mapping[str, Seen], not_measured: Mapping[str, str]
) -> dict[str, JsonValue]:
    servers: dict[str, JsonValue] = {}
    for name, one in seen.items():
        contender, tuning = one.contender, one.tuning
        servers[name] = {
            "framework": framework_version(contender.framework)
            if contender.framework
            else "exeunt",
            "backend": contender.backend,
            "precision": contender.precision,
            "exits": contender.exits,
            "own_text_lengths": contender.buckets,
            "batch_rows": tuning.batch_rows,
            "batch_timeout_s": tuning.batch_timeout_s,
            "in_flight": tuning.in_flight,
            "tried": {str(tried): rate for tried, rate in one.tried.items()},
            "exit_layers": _exits(one.sightings) if contender.exits else None,
        }
    return {
        "servers": servers,
        "peers_not_measured": dict(not_measured),
        "calibrated_rho": dict(prepared.rho),
    }


def _exits(sightings: Sequence[Sighting]) -> dict[str, JsonValue]:
    exits: dict[str, JsonValue] = {}
    for layer in sightings[0].measured.exits if sightings else ():
        exits[str(layer)] = sum(s.measured.exits.get(layer, 0) for s in sightings)
    return exits
