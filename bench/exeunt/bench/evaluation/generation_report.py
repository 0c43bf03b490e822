"""What an evaluation of a bundle that generates found."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rich.console import Group
from rich.table import Table


@dataclass(frozen=True)
class LaneExits:
    """Where samples, or tokens, left a lane. exits: how many by layer."""

    depth: int
    mean: float
    exits: dict[int, int]

    @classmethod
    def of(cls, layers: Sequence[int], depth: int) -> "LaneExits":
        """Return the figures of at least one exit."""
        found = Counter(layers)
        every = {layer: found.get(layer, 0) for layer in range(min(1, depth), depth + 1)}
        return cls(depth, fmean(layers), every)

    @property
    def share(self) -> float:
        """Layers run / layers possible."""
        return self.mean / self.depth if self.depth else 1.0


@dataclass(frozen=True)
class TaskReport:
    """Figures of one task.

    accuracy: of labels. bleu4, cider: of texts, in percent. lanes: exits by lane; of the decoder
    one a token that was computed. tokens, seconds: of the policy's run; never_tokens, never_seconds
    of full depth, in turns with it.
    """

    samples: int
    accuracy: float | None
    bleu4: float | None
    cider: float | None
    lanes: dict[str, LaneExits]
    decoder: str
    tokens: int
    seconds: float
    never_tokens: int | None
    never_seconds: float | None

    @property
    def reduction(self) -> float:
        """The expected time reduction: 1 - (n_E / N_E + sum w n_D / sum w N_D) / 2.

        n_E is the mean of the encoder lanes' exit layers, and w counts the tokens that leave at
        n_D. A model without encoder lanes has the decoder's share alone.

        Reference: MuE, Eq. (14)
        """
        encoders = [lane.share for name, lane in self.lanes.items() if name != self.decoder]
        decoder = self.lanes[self.decoder].share
        return 1.0 - (fmean(encoders) + decoder) / 2 if encoders else 1.0 - decoder

    @property
    def speed_up(self) -> float | None:
        """Tokens a second over those of full depth; None where that was not run."""
        if self.never_seconds is None or not self.never_tokens:
            return None
        return (self.tokens / self.seconds) / (self.never_tokens / self.never_seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return {
            **asdict(self),
            "reduction": self.reduction,
            "tokens_per_second": self.tokens / self.seconds,
            "requests_per_second": self.samples / self.seconds,
            "speed_up": self.speed_up,
        }


@dataclass(frozen=True)
class GenerationReport:
    """An evaluation of all tasks, by name."""

    bundle: str
    data: str
    backend: str
    precision: str
    policy_version: int
    tasks: dict[str, TaskReport]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values; `reduction` is that of the task that saves less.

        accuracy, bleu4 and cider are of the tasks that have them, exits of each task's lanes.
        """
        found: dict[str, Any] = {
            "bundle": self.bundle,
            "data": self.data,
            "backend": self.backend,
            "precision": self.precision,
            "policy_version": self.policy_version,
        }
        for name in ("accuracy", "bleu4", "cider"):
            values = [getattr(task, name) for task in self.tasks.values()]
            found[name] = next((value for value in values if value is not None), None)
        for name, task in self.tasks.items():
            found[f"reduction_{name}"] = task.reduction
        found["reduction"] = min(task.reduction for task in self.tasks.values())
        found["exits"] = {
            name: {lane: exits.exits for lane, exits in task.lanes.items()}
            for name, task in self.tasks.items()
        }
        found["tasks"] = {name: task.as_json() for name, task in self.tasks.items()}
        return found

    def as_table(self) -> Group:
        """Return the report as tables for a terminal."""
        figures = Table(title=f"{self.bundle} on {self.data}, {self.backend} {self.precision}")
        columns = ("task", "samples", "accuracy", "BLEU-4", "CIDEr", "reduction", "tokens/s")
        for column in columns:
            figures.add_column(column, justify="left" if column == "task" else "right")
        for name, task in self.tasks.items():
            figures.add_row(
                name,
                str(task.samples),
                "" if task.accuracy is None else f"{task.accuracy:.2%}",
                "" if task.bleu4 is None else f"{task.bleu4:.1f}",
                "" if task.cider is None else f"{task.cider:.1f}",
                f"{task.reduction:.1%}",
                f"{task.tokens / task.seconds:.0f}",
            )
        exits = Table(title="exits by layer (in the decoder, of tokens)")
        depth = max(lane.depth for task in self.tasks.values() for lane in task.lanes.values())
        for column in ("task", "lane", "mean", *(str(layer) for layer in range(1, depth + 1))):
            exits.add_column(column, justify="left" if column in ("task", "lane") else "right")
        for name, task in self.tasks.items():
            for lane, found in task.lanes.items():
                total = sum(found.exits.values())
                shares = [f"{found.exits.get(layer, 0) / total:.0%}" for layer in found.exits]
                exits.add_row(name, lane, f"{found.mean:.2f}", *shares)
        return Group(figures, exits, *self._lines())

    def _lines(self) -> Iterator[str]:
        for name, task in self.tasks.items():
            if task.speed_up is not None and task.never_seconds is not None:
                yield (
                    f"{name}: {task.seconds:.1f} s, to full depth {task.never_seconds:.1f} s:"
                    f" {task.speed_up:.2f}x its tokens a second"
                )
