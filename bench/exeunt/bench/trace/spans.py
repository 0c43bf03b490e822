"""The walk of each request through a trace: from its first batch to its last."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from exeunt.engine.trace import TracedBatch


@dataclass(frozen=True, slots=True)
class Exit:
    """Where a unit left a lane, and by which criterion."""

    lane: str
    layer: int
    criterion: str


@dataclass(slots=True)
class Span:
    """A request's batches, by their places in the trace. exits: by lane, the last of each.

    through: whether it left in its last batch.
    """

    first: int
    last: int
    exits: list[Exit] = field(default_factory=list)
    through: bool = False


def spans_of(batches: Sequence[TracedBatch]) -> dict[int, Span]:
    """Return the span of each request that is in any batch, by its number."""
    spans: dict[int, Span] = {}
    for place, batch in enumerate(batches):
        for number in batch.requests:
            span = spans.get(number)
            if span is None:
                spans[number] = Span(place, place)
            else:
                span.last = place
                span.through = False
        for number, criterion in batch.left:
            span = spans[number]
            span.through = True
            kept = [one for one in span.exits if one.lane != batch.lane]
            span.exits = [*kept, Exit(batch.lane, batch.layer, criterion)]
    return spans
