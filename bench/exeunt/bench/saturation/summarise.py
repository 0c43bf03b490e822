"""From what was seen of every contender to the figures of a saturation run."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from resource import RUSAGE_SELF, getrusage

import numpy as np

from exeunt.bench.peers import Peer, PeerRun
from exeunt.bench.peers.base import Exits
from exeunt.bench.report.figures import Figure
from exeunt.bench.saturation.engine_peer import EnginePeer, LayerFill, StepShares
from exeunt.bench.saturation.measures import occupancy_rho, phi, realised_savings
from exeunt.bench.saturation.occupancy import LayerTimes
from exeunt.bench.saturation.report import Contender, SaturationReport
from exeunt.bench.saturation.settings import SaturationSettings


def summarise(
    settings: SaturationSettings,
    peers: Sequence[Peer],
    runs: dict[str, list[PeerRun]],
    exits: Exits,
    times: LayerTimes,
    tried: dict[str, float],
    shares: Sequence[StepShares],
    fills: Sequence[Sequence[LayerFill]],
) -> SaturationReport:
    """Return the report of a run.

    Args:
        settings: what was measured.
        peers: the engine and full depth first.
        runs: by peer, one for each repeat, in the order in which they were made.
        exits: drawn for the samples.
        times: of a layer and an exit check.
        tried: seconds a sample in the search for full depth's best batch.
        shares: where the engine's streams spent each repeat.
        fills: the engine's batches in each repeat.
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
        batch_fill=_batch_fill(fills, settings.batch_rows),
        exit_shares=_exit_shares(runs[EnginePeer.name], settings.layers),
        peak_memory_bytes=getrusage(RUSAGE_SELF).ru_maxrss * 1024,
    )


def _batch_fill(fills: Sequence[Sequence[LayerFill]], batch_rows: int) -> dict[int, Figure]:
    """Return rows a batch / rows of a full batch, by layer; without layers that never ran."""
    found: dict[int, list[float]] = {}
    for repeat in fills:
        for one in repeat:
            if one.batches:
                found.setdefault(one.layer, []).append(one.rows / one.batches / batch_rows)
    return {layer: Figure.of(values, "share", "higher") for layer, values in sorted(found.items())}


def _exit_shares(runs: Sequence[PeerRun], layers: int) -> tuple[float, ...]:
    """Return the share of the answers that left at each layer, first layer first."""
    left = np.concatenate([run.exit_layers for run in runs])
    counts = np.bincount(left, minlength=layers + 1)[1:]
    return tuple((counts / len(left)).tolist())
