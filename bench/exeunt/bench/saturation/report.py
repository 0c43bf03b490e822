"""What a saturation run found."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from exeunt.bench.report.figures import Figure
from exeunt.bench.report.machine import command_line, now, this_machine
from exeunt.bench.saturation.settings import SaturationSettings

FILL = "batch_fill."  # before a layer, in the figures' names


@dataclass(frozen=True)
class Contender:
    """One peer. speed_up: of the engine over it, repeat by repeat."""

    requests_per_second: Figure
    speed_up: Figure
    rho: float
    settings: dict[str, str | int]


@dataclass(frozen=True)
class SaturationReport:
    """The figures of a run; None where one is not defined.

    realised_savings, phi, phi_b: against full depth's best static batch, the median over repeats.
    loss_at_zero_exits: 1 - X_ee / X_full, where every sample is drawn to run to the end. own_share:
    of the engine's steps, what is not the backend's. batch_fill: rows of a batch / rows of a full
    one, by layer, 0 before the first. exit_shares: of the engine's answers, first layer first.
    peak_memory_bytes: of the whole process, the baseline and the peers in it included.
    """

    settings: SaturationSettings
    rho: float
    rho_b: float
    requests_per_second: Figure
    realised_savings: Figure
    phi: Figure | None
    phi_b: Figure | None
    loss_at_zero_exits: Figure | None
    own_share: Figure
    step_shares: dict[str, float]
    step_us: float
    peers: dict[str, Contender]
    tried: dict[str, float]
    batch_fill: dict[int, Figure]
    exit_shares: tuple[float, ...]
    peak_memory_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values: medians first, then everything."""
        return {
            "realised_savings": self.realised_savings.median,
            "phi": self.phi.median if self.phi else None,
            "rho": self.rho,
            "phi_b": self.phi_b.median if self.phi_b else None,
            "rho_b": self.rho_b,
            "loss_at_zero_exits": (
                self.loss_at_zero_exits.median if self.loss_at_zero_exits else None
            ),
            "requests_per_second": self.requests_per_second.median,
            "scheduler_share": self.own_share.median,
            "peers": {
                name: {
                    "requests_per_second": peer.requests_per_second.median,
                    "speed_up": peer.speed_up.median,
                    "rho": peer.rho,
                    "settings": peer.settings,
                }
                for name, peer in self.peers.items()
            },
            "spread": {name: figure.model_dump() for name, figure in self.figures().items()},
            "batch_fill": {str(layer): fill.median for layer, fill in self.batch_fill.items()},
            "exit_shares": list(self.exit_shares),
            "peak_memory_bytes": self.peak_memory_bytes,
            "step_shares": self.step_shares,
            "step_own_us": self.step_us,
            "static_search_s_per_sample": self.tried,
            "workload": self.settings.model_dump(),
            "machine": this_machine(self.settings.compute_threads).model_dump(),
            "command": command_line(),
            "created": now(),
        }

    def as_table(self) -> Table:
        """Return the figures as a table for a terminal."""
        s = self.settings
        streams = f"{s.streams} streams, " if s.streams > 1 else ""
        table = Table(
            title=f"uniter-base, H {s.hidden}, exits {s.exits}: {s.backend} {s.precision}, "
            f"{s.compute_threads} threads, {streams}{s.counted} samples, {s.repeats} repeats in"
            " turns"
        )
        for column in ("", "requests/s", "least", "most", "exeunt is", "rho", "batch"):
            table.add_column(column, justify="left" if not column else "right")
        own = self.requests_per_second
        table.add_row("exeunt", *_cells(own), "", f"{self.rho:.3f}", str(s.batch_rows))
        for name, peer in self.peers.items():
            table.add_row(
                name,
                *_cells(peer.requests_per_second),
                f"{peer.speed_up.median:.2f}x",
                f"{peer.rho:.3f}",
                _batch(peer.settings),
            )
        lines = [
            f"{name.replace('_', ' ')} {figure.median:.3f}"
            f" ({figure.least:.3f} to {figure.most:.3f})"
            for name, figure in self.figures().items()
            if figure.unit == "share" and not name.startswith(FILL)
        ]
        full = [f"{key} {value}" for key, value in self.peers["static"].settings.items()]
        fills = [f"{layer}: {fill.median:.0%}" for layer, fill in self.batch_fill.items()]
        lines += [
            f"rho_B {self.rho_b:.3f}; {self.step_us:.0f} us a step",
            f"full depth at its best: {', '.join(full)}",
            f"batch fill by layer, {', '.join(fills)}",
            f"peak memory {self.peak_memory_bytes / 2**20:,.0f} MiB, of baseline and peers too",
        ]
        table.caption = "\n".join(lines)
        return table

    def figures(self) -> dict[str, Figure]:
        """Return the engine's own figures, those that are defined."""
        found = {
            "requests_per_second": self.requests_per_second,
            "realised_savings": self.realised_savings,
            "phi": self.phi,
            "phi_b": self.phi_b,
            "loss_at_zero_exits": self.loss_at_zero_exits,
            "scheduler_share": self.own_share,
            **{f"{FILL}{layer}": fill for layer, fill in self.batch_fill.items()},
        }
        return {name: figure for name, figure in found.items() if figure is not None}


def _batch(settings: dict[str, str | int]) -> str:
    callers = settings.get("callers", 1)
    more = f"{callers} x " if callers != 1 else ""
    return f"{more}{settings.get('batch_rows', '')}"


def _cells(figure: Figure) -> tuple[str, str, str]:
    return f"{figure.median:.1f}", f"{figure.least:.1f}", f"{figure.most:.1f}"
