"""Sweeping the rate up to the knee.

The rates are shares of the policy's own saturation throughput, measured before in a closed loop.
The knee is the highest of them up to which, without a gap, 99 % of all requests were answered
within a limit (a request that failed was not): the SLO where one is given, else 5 times the p99 at
the lowest rate. That p99 is full depth's where it takes part, so that both policies are held to one
limit. A run whose load generator was the bottleneck ends the climb: it says nothing of the target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exeunt.bench.load.measure import Measurement
from exeunt.bench.load.settings import SHARES, Policy

# Both policies are also measured at this share of full depth's saturation throughput: the same
# clients, with and without exits.
COMMON_SHARE = 0.7
KNEE_FACTOR = 5.0
KNEE_WITHIN = 0.99


@dataclass(frozen=True)
class Point:
    """A policy at a rate. share: of the saturation throughput of the policy `of`."""

    policy: Policy
    rate: float | None
    share: float | None = None
    of: Policy | None = None

    @property
    def is_common(self) -> bool:
        """Whether both policies are compared at this rate."""
        return self.share == COMMON_SHARE and self.of == "never"


def plan_points(
    saturation: Mapping[Policy, float], shares: Sequence[float] = SHARES
) -> list[Point]:
    """Return the points of a sweep, from low shares to high ones.

    Args:
        saturation: requests/s in a closed loop, by policy.
        shares: of it, ascending.
    """
    points = [
        Point(policy, share * rate, share, policy)
        for share in shares
        for policy, rate in saturation.items()
    ]
    if len(saturation) > 1:
        rate, below = COMMON_SHARE * saturation["never"], sum(s < COMMON_SHARE for s in shares)
        common = [Point("default", rate, COMMON_SHARE, "never")]
        if COMMON_SHARE not in shares:
            common.append(Point("never", rate, COMMON_SHARE, "never"))
        points[below * len(saturation) : below * len(saturation)] = common
    return points


def low_load_limit_ms(lowest: Sequence[Measurement]) -> float | None:
    """Return the knee's limit where no SLO is given; None when nothing was answered.

    Args:
        lowest: the repeats at the lowest rate.
    """
    found = [p99 for one in lowest if (p99 := one.percentile_ms(99)) is not None]
    return KNEE_FACTOR * sorted(found)[len(found) // 2] if found else None


def knee(climb: Sequence[tuple[float, Measurement]], limit_ms: float) -> float | None:
    """Return the highest rate that keeps within the limit; None when the lowest does not.

    Args:
        climb: rates, ascending, and what was measured at each.
        limit_ms: see the module.
    """
    found = None
    for rate, one in climb:
        if one.problems or one.share_within(limit_ms) < KNEE_WITHIN:
            break
        found = rate
    return found
