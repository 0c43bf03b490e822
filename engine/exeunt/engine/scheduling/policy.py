"""The scheduling policy: a pure function from what waits to what runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal["aged", "deadline", "worthwhile", "deepest"]


@dataclass(slots=True)
class Queue:
    """Units that may share a batch: one lane, one stage, equal shapes. The policy only reads it.

    depth: how far along they are; lanes in order, then stages. rows: that wait. oldest_s: since
    when the first of them waits. worthwhile_rows: the smallest batch that is worth running before a
    deeper, smaller one. latest_start_s: when the first of them must go on to meet its deadline at
    full depth.
    """

    depth: tuple[int, int]
    rows: int
    oldest_s: float
    worthwhile_rows: int = 3
    latest_start_s: float = math.inf


@dataclass(frozen=True)
class PolicySettings:
    """max_wait_s: a queue whose first unit waits longer runs next, so that none starves.

    urgent_s: a queue that must start within this time to meet a deadline runs before the others;
    the time of the longest batch, since that is how long it would wait for its next chance.
    """

    max_wait_s: float = 1.0
    urgent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The queue that runs next, by its place, and why."""

    place: int
    reason: Reason


def choose(queues: Sequence[Queue], settings: PolicySettings, now_s: float) -> Choice:
    """Choose the queue that runs next.

    1. `aged`: a queue that has waited beyond `max_wait_s`; the one that has waited longest.
    2. `deadline`: else one that can still meet a deadline, but not if it waits for another batch;
       the one that must start first. A deadline that is lost already has no claim.
    3. `worthwhile`: else the deepest with at least its worthwhile number of rows: rows near their
       end free their places and answer first, and batches stay worth their cost.
    4. `deepest`: else the deepest: nothing is ever held back for a fuller batch.

    Among equal depths (lanes of other shapes) the oldest goes first.

    Args:
        queues: at least one, each with at least one row.
        settings: the policy's two numbers.
        now_s: the clock, on the same scale as the queues'.
    """
    oldest = urgent = full = deepest = -1
    for place, queue in enumerate(queues):
        if oldest < 0 or queue.oldest_s < queues[oldest].oldest_s:
            oldest = place
        slack_s = queue.latest_start_s - now_s
        if 0.0 <= slack_s < settings.urgent_s and (
            urgent < 0 or queue.latest_start_s < queues[urgent].latest_start_s
        ):
            urgent = place
        if deepest < 0 or _deeper(queue, queues[deepest]):
            deepest = place
        if queue.rows >= queue.worthwhile_rows and (full < 0 or _deeper(queue, queues[full])):
            full = place
    if now_s - queues[oldest].oldest_s > settings.max_wait_s:
        return Choice(oldest, "aged")
    if urgent >= 0:
        return Choice(urgent, "deadline")
    return Choice(full, "worthwhile") if full >= 0 else Choice(deepest, "deepest")


def _deeper(one: Queue, other: Queue) -> bool:
    if one.depth != other.depth:
        return one.depth > other.depth
    return one.oldest_s < other.oldest_s
