"""What an evaluation found."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table

from exeunt.bench.evaluation.reference import REFERENCE


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

    agreement: the share of samples with the label that the reference gives, which is full depth in
    fp32 under ONNX Runtime; never_agreement: the same of this engine's own full depth. None when
    the engine itself is of that backend and precision, or was not compared with the reference.
    seconds: in the engine, inputs prepared before. never_seconds, time_saved: the same samples to
    full depth, in turns with the policy's; None when the policy is `never` or it was not asked for.
    """

    bundle: str
    data: str
    backend: str
    precision: str
    policy_version: int
    samples: int
    accuracy: float
    rho: float
    exits: dict[int, int]
    kinds: dict[str, KindReport]
    agreement: float | None
    never_agreement: float | None
    seconds: float
    never_seconds: float | None

    @property
    def time_saved(self) -> float | None:
        """The share of full depth's time that the policy saved."""
        return None if self.never_seconds is None else 1.0 - self.seconds / self.never_seconds

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {**asdict(self), "time_saved": self.time_saved}

    def as_table(self) -> Group:
        """Return the report as tables for a terminal."""
        kinds = Table(title=f"{self.bundle} on {self.data}, {self.backend} {self.precision}")
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
        return Group(kinds, exits, *self._lines())

    def _lines(self) -> Iterator[str]:
        if self.agreement is not None:
            own = self.never_agreement
            more = "" if own is None else f" (its own full depth's: {own:.2%})"
            yield f"labels equal to those of {REFERENCE}: {self.agreement:.2%}{more}"
        if self.time_saved is not None:
            yield (
                f"{self.seconds:.1f} s, to full depth {self.never_seconds:.1f} s: time saved"
                f" {self.time_saved:.1%}"
            )
        else:
            yield f"{self.seconds:.1f} s"


def summarise(outcomes: Iterable[Outcome]) -> tuple[KindReport, dict[str, KindReport]]:
    """Return the figures over all, and by kind and group of kinds (before the slash)."""
    every = list(outcomes)
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in every:
        for name in {outcome.kind.split("/")[0], outcome.kind}:
            by_kind.setdefault(name, []).append(outcome)
    kinds = {name: KindReport.of(found) for name, found in sorted(by_kind.items())}
    return KindReport.of(every), kinds
