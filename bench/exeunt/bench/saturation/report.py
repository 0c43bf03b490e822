"""What a saturation run found."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from exeunt.bench.peers import Peer, PeerRun
from exeunt.bench.peers.base import Exits
from exeunt.bench.report.figures import Figure
from exeunt.bench.report.machine import command_line, now, this_machine
from exeunt.bench.saturation.engine_peer import EnginePeer, StepShares
from exeunt.bench.saturation.measures import occupancy_rho, phi, realised_savings
from exeunt.bench.saturation.occupancy import LayerTimes
from exeunt.bench.saturation.settings import SaturationSettings


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
    of the engine's steps, what is not the backend's.
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
            "spread": {
                name: figure.model_dump()
                for name, figure in self._figures().items()
                if figure is not None
            },
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
        table = Table(
            title=f"uniter-base, H {s.hidden}, exits {s.exits}: {s.backend} {s.precision}, "
            f"{s.compute_threads} threads, {s.counted} samples, {s.repeats} repeats in turns"
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
                str(peer.settings.get("batch_rows", "")),
            )
        lines = [
            f"{name.replace('_', ' ')} {figure.median:.3f}"
            f" ({figure.least:.3f} to {figure.most:.3f})"
            for name, figure in self._figures().items()
            if figure is not None and figure.unit != "requests/s"
        ]
        table.caption = "\n".join([*lines, f"rho_B {self.rho_b:.3f}; {self.step_us:.0f} us a step"])
        return table

    def _figures(self) -> dict[str, Figure | None]:
        return {
            "requests_per_second": self.requests_per_second,
            "realised_savings": self.realised_savings,
            "phi": self.phi,
            "phi_b": self.phi_b,
            "loss_at_zero_exits": self.loss_at_zero_exits,
            "scheduler_share": self.own_share,
        }


def _cells(figure: Figure) -> tuple[str, str, str]:
    return f"{figure.median:.1f}", f"{figure.least:.1f}", f"{figure.most:.1f}"


def summarise(
    settings: SaturationSettings,
    peers: Sequence[Peer],
    runs: dict[str, list[PeerRun]],
    exits: Exits,
    times: LayerTimes,
    tried: dict[str, float],
    shares: Sequence[StepShares],
) -> SaturationReport:
    """Return the report of a run.

    Args:
        settings: what was measured.
        peers: the engine and full depth first.
        runs: by peer, one for each repeat, in the order in which they were made.
        exits: drawn for the samples.
        times: of a layer and an exit check.
        tried: seconds a sample in the search for full depth's best batch.
        shares: where the engine's thread spent each repeat.
    """
    rates = {
        name: [len(run.exit_layers) / run.seconds for run in found] for name, found in runs.items()
    }
    ours, full = rates[EnginePeer.name], rates["static"]
    # The window's own rho: what is counted is what was answered in it.
    rhos = [float(run.exit_layers.mean()) / settings.layers for run in runs[EnginePeer.name]]
    ups = [one / other for one, other in zip(ours, full, strict=True)]
    rho_b = occupancy_rho(exits, times.layer_s, times.head_s)
    phis = [phi(up, rho) for up, rho in zip(ups, rhos, strict=True)]
    known = [value for value in phis if value is not None]
    phi_bs = [value for up in ups if (value := phi(up, rho_b)) is not None]
    contenders = {
        peer.name: Contender(
            Figure.of(rates[peer.name], "requests/s", "higher"),
            Figure.of(
                [one / other for one, other in zip(ours, rates[peer.name], strict=True)],
                "x",
                "higher",
            ),
            float(runs[peer.name][0].exit_layers.mean()) / settings.layers,
            peer.settings,
        )
        for peer in peers
        if peer.name != EnginePeer.name
    }
    return SaturationReport(
        settings=settings,
        rho=statistics.median(rhos),
        rho_b=rho_b,
        requests_per_second=Figure.of(ours, "requests/s", "higher"),
        realised_savings=Figure.of(
            [realised_savings(up, rho) for up, rho in zip(ups, rhos, strict=True)],
            "share",
            "higher",
        ),
        phi=Figure.of(known, "share", "higher") if len(known) == len(phis) else None,
        phi_b=Figure.of(phi_bs, "share", "higher") if phi_bs else None,
        loss_at_zero_exits=(
            Figure.of([1 - up for up in ups], "share", "lower")
            if settings.exits == "last"
            else None
        ),
        own_share=Figure.of([share.own for share in shares], "share", "lower"),
        step_shares={
            name: statistics.median(share.parts[name] for share in shares)
            for name in asdict(shares[0])["parts"]
        },
        step_us=statistics.median(share.step_us for share in shares),
        peers=contenders,
        tried=tried,
    )
