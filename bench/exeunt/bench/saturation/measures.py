"""The measures of a saturated early-exit engine, as pure functions."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

PHI_UNDEFINED_FROM = 0.95  # so little can be gained there that phi would be noise


def realised_savings(speed_up: float, rho: float) -> float:
    """Return (X_ee / X_full) rho: 1 when every layer saved is time saved.

    Args:
        speed_up: X_ee / X_full, the throughputs with exits and at full depth.
        rho: layers run / layers possible (UNITER-MSD, eq. 19).
    """
    return speed_up * rho


def phi(speed_up: float, rho: float) -> float | None:
    """Return the share of the possible gain that is realised: (X_ee / X_full - 1) / (1 / rho - 1).

    None where rho is above .95.
    """
    return None if rho > PHI_UNDEFINED_FROM else (speed_up - 1.0) / (1.0 / rho - 1.0)


def occupancy_rho(
    exits: NDArray[np.int64], layer_s: Sequence[float], head_s: Mapping[int, float]
) -> float:
    """Return rho_B = sum_l s_l (t_l(B) + r_l(B)) / sum_l t_l(B).

    s_l is the share of the samples that reach layer l, t_l(B) and r_l(B) the seconds of a layer and
    of its exit check in a batch of B rows: what exits could save at best if the checks are paid.

    Args:
        exits: i64[N], the exit layers.
        layer_s: t_l(B), first layer first.
        head_s: r_l(B) by layer.
    """
    reached = [float((exits >= layer).mean()) for layer in range(1, len(layer_s) + 1)]
    paid = sum(
        share * (seconds + head_s.get(layer, 0.0))
        for layer, (share, seconds) in enumerate(zip(reached, layer_s, strict=True), 1)
    )
    return paid / sum(layer_s)
