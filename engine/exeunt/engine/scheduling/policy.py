"""The scheduling policy: a pure function from what waits to what runs."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queue:
    """Units that may share a batch: one lane, one stage, equal shapes.

    depth: how far along they are; lanes in order, then stages. rows: that wait. oldest_s: since
    when the first of them waits.
    """

    depth: tuple[int, int]
    rows: int
    oldest_s: float


@dataclass(frozen=True)
class PolicySettings:
    """min_batch_rows: the smallest batch worth running before a deeper, smaller one.

    max_wait_s: a queue whose first unit waits longer runs next, so that none starves.
    """

    min_batch_rows: int = 3
    max_wait_s: float = 1.0


def choose(queues: Sequence[Queue], settings: PolicySettings, now_s: float) -> int:
    """Return the place of the queue that runs next.

    1. A queue that has waited beyond `max_wait_s`: the one that has waited longest.
    2. Else the deepest with at least `min_batch_rows` rows: rows near their end free their places
       and answer first, and batches stay worth their cost.
    3. Else the deepest: nothing is ever held back for a fuller batch.

    Among equal depths (lanes of other shapes) the oldest goes first.

    Args:
        queues: at least one, each with at least one row.
        settings: the policy's two numbers.
        now_s: the clock, on the same scale as `oldest_s`.
    """
    places = range(len(queues))
    oldest = min(places, key=lambda place: queues[place].oldest_s)
    if now_s - queues[oldest].oldest_s > settings.max_wait_s:
        return oldest
    full = [place for place in places if queues[place].rows >= settings.min_batch_rows]
    return max(full or places, key=lambda place: (queues[place].depth, -queues[place].oldest_s))
