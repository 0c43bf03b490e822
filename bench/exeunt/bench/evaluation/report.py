"""What an evaluation found."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table


@dataclass(frozen=True)
class Outcome:
    """One sample's result. right: the label was the expected one."""

    kind: str
    right: bool
    exit_layer: int
    depth: int


@dataclass(frozen=True)
class KindReport:
    """Figures of one kind of sample.

    rho: layers run / layers possible (UNITER-MSD, Eq. 19). exits: samples by exit layer.
    """

    samples: int
    accuracy: float
    rho: float
    exits: dict[int, int]

    @classmethod
    def of(cls, outcomes: list[Outcome]) -> "KindReport":
        """Return the figures of at least one outcome."""
        right = sum(outcome.right for outcome in outcomes)
        run = sum(outcome.exit_layer for outcome in outcomes)
        possible = sum(outcome.depth for outcome in outcomes)
        depth = max(outcome.depth for outcome in outcomes)
        found = Counter(outcome.exit_layer for outcome in outcomes)
        exits = {layer: found.get(layer, 0) for layer in range(min(1, depth), depth + 1)}
        return cls(len(outcomes), right / len(outcomes), run / possible if possible else 1.0, exits)


@dataclass(frozen=True)
class EvalReport:
    """An evaluation. exits: samples by exit layer. kinds: each kind and each group of kinds.

    seconds: in the engine, inputs prepared before. never_seconds, time_saved: the same samples to
    full depth, in turns with the policy's; None when the policy is `never` or it was not asked for.
    """

    bundle: str
    data: str
    policy_version: int
    samples: int
    accuracy: float
    rho: float
    exits: dict[int, int]
    kinds: dict[str, KindReport]
    seconds: float
    never_seconds: float | None
    time_saved: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)

    def as_table(self) -> Group:
        """Return the report as tables for a terminal."""
        kinds = Table(title=f"{self.bundle} on {self.data}")
        for column in ("kind", "samples", "accuracy", "rho"):
            kinds.add_column(column, justify="left" if column == "kind" else "right")
        total = KindReport(self.samples, self.accuracy, self.rho, self.exits)
        for kind, figures in [*self.kinds.items(), ("all", total)]:
            kinds.add_row(
                kind, str(figures.samples), f"{figures.accuracy:.2%}", f"{figures.rho:.3f}"
            )
        exits = Table(title="exits by layer")
        for column in ("layer", "samples", "share"):
            exits.add_column(column, justify="right")
        exits.add_column("")
        for layer, count in self.exits.items():
            share = count / self.samples
            exits.add_row(str(layer), str(count), f"{share:.1%}", "█" * round(40 * share))
        saved = (
            f"{self.seconds:.1f} s, to full depth {self.never_seconds:.1f} s: time saved"
            f" {self.time_saved:.1%}"
            if self.never_seconds is not None and self.time_saved is not None
            else f"{self.seconds:.1f} s"
        )
        return Group(kinds, exits, saved)


def summarise(outcomes: Iterable[Outcome]) -> tuple[KindReport, dict[str, KindReport]]:
    """Return the figures over all, and by kind and group of kinds (before the slash)."""
    every = list(outcomes)
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in every:
        for name in {outcome.kind.split("/")[0], outcome.kind}:
            by_kind.setdefault(name, []).append(outcome)
    kinds = {name: KindReport.of(found) for name, found in sorted(by_kind.items())}
    return KindReport.of(every), kinds
