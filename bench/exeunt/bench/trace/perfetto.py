"""A trace in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

===================  ===============================================================================
process `engine`     a track for each lane (and stream, where there are several); every batch is a
                     slice, named by its segment, with its layer, rows, requests and the scheduling
                     policy's reason
counter              `rows NAME`: the rows of the batch that runs in a lane
process `requests`   a track for each request, from its first batch to its last; on it a slice for
                     each batch that the request was in, so that the gaps show where it waited
===================  ===============================================================================

Times are microseconds from the start of the first batch. A request's end says where it left each
lane, by which criterion; one that was not through when the trace ended, or was given up, says so.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exeunt.bench.trace.spans import Span, spans_of
from exeunt.engine.errors import ConfigError
from exeunt.engine.trace import Trace, TracedBatch

Event = dict[str, Any]
Track = tuple[str, int]  # a lane and a stream

ENGINE, REQUESTS = 1, 2  # the processes' numbers
CATEGORY = "request"


def write_trace(trace: Trace, path: Path) -> None:
    """Write a trace as JSON, one event a line.

    The file is written as the events are made, so that a long trace needs no second copy in memory.

    Args:
        trace: of an engine that no longer records into it, or of a simulator.
        path: is overwritten.

    Raises:
        ConfigError: the trace is empty, or the file cannot be written.
    """
    if not trace.batches:
        raise ConfigError(f"no batch ran while it was traced: there is nothing to write to {path}")
    head = {"displayTimeUnit": "ms", "otherData": _about(trace)}
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head)[:-1] + ', "traceEvents": [')
            before = "\n"
            for event in events(trace):
                file.write(before + json.dumps(event, separators=(",", ":")))
                before = ",\n"
            file.write("\n]}\n")
    except OSError as error:
        raise ConfigError(
            f"cannot write the trace to {path} ({error.strerror}): name a file that can be written"
        ) from None


def events(trace: Trace) -> Iterator[Event]:
    """Yield every event of a trace with at least one batch, in the order of the batches."""
    tracks = {track: place for place, track in enumerate(_tracks(trace), 1)}
    yield from _names(tracks)
    spans = spans_of(trace.batches)
    origin_s = min(batch.started_s for batch in trace.batches)
    for place, batch in enumerate(trace.batches):
        start_ns, end_ns = _ns(batch.started_s - origin_s), _ns(batch.ended_s - origin_s)
        yield _slice(batch, tracks[batch.lane, batch.stream], start_ns, end_ns)
        yield _counter(batch, start_ns, len(batch.requests))
        yield _counter(batch, end_ns, 0)
        left = dict(batch.left)
        for number in dict.fromkeys(batch.requests):  # a request may have several units here
            span = spans[number]
            if span.first == place:
                yield _request(number, "b", start_ns, f"request {number}", {})
            yield _request(number, "b", start_ns, batch.segment, _part(batch))
            found = {"left": left[number]} if number in left else {}
            yield _request(number, "e", end_ns, batch.segment, found)
            if span.last == place:
                yield _request(number, "e", end_ns, f"request {number}", _end(span))


def _about(trace: Trace) -> dict[str, Any]:
    return {"batches": len(trace.batches), "batches_dropped": trace.dropped, "clock": "engine"}


def _tracks(trace: Trace) -> list[Track]:
    return sorted({(batch.lane, batch.stream) for batch in trace.batches})


def _names(tracks: dict[Track, int]) -> Iterator[Event]:
    for process, name in ((ENGINE, "engine"), (REQUESTS, "requests")):
        yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}
    several = any(stream for _, stream in tracks)
    for (lane, stream), place in tracks.items():
        args = {"name": f"lane {lane}, stream {stream}" if several else f"lane {lane}"}
        yield {"ph": "M", "name": "thread_name", "pid": ENGINE, "tid": place, "args": args}


def _slice(batch: TracedBatch, track: int, start_ns: int, end_ns: int) -> Event:
    return {
        "ph": "X",
        "name": batch.segment,
        "cat": "batch",
        "pid": ENGINE,
        "tid": track,
        "ts": start_ns / 1e3,
        "dur": (end_ns - start_ns) / 1e3,
        "args": {
            "layer": batch.layer,
            "rows": len(batch.requests),
            "reason": batch.reason,
            "requests": list(batch.requests),
            "left": dict(batch.left),
        },
    }


def _counter(batch: TracedBatch, at_ns: int, rows: int) -> Event:
    name = f"rows {batch.lane}, stream {batch.stream}" if batch.stream else f"rows {batch.lane}"
    return {"ph": "C", "name": name, "pid": ENGINE, "ts": at_ns / 1e3, "args": {"rows": rows}}


def _request(number: int, phase: str, at_ns: int, name: str, args: dict[str, Any]) -> Event:
    return {
        "ph": phase,
        "cat": CATEGORY,
        "id": number,
        "name": name,
        "pid": REQUESTS,
        "tid": 0,
        "ts": at_ns / 1e3,
        "args": args,
    }


def _part(batch: TracedBatch) -> dict[str, Any]:
    return {"lane": batch.lane, "layer": batch.layer, "rows": len(batch.requests)}


def _end(span: Span) -> dict[str, Any]:
    """Return where a request left; `exit_layer` and `criterion` are those of its last lane."""
    if not span.through:
        return {"exit": "none: under way when the trace ended, or given up"}
    last = span.exits[-1]
    return {
        "exit_layer": last.layer,
        "criterion": last.criterion,
        "exits": [
            {"lane": one.lane, "layer": one.layer, "criterion": one.criterion} for one in span.exits
        ],
    }


def _ns(seconds: float) -> int:
    """Return whole nanoseconds: slices that do not overlap stay so when they are rounded."""
    return round(seconds * 1e9)
