"""The probe: raw tensors through every lane to full depth, with everything recorded."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.tensors import numpy_dtype
from exeunt.engine.criteria import (
    Confidence,
    Cosine,
    Criterion,
    Entropy,
    Evidence,
    Margin,
    next_streak,
)
from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import Request
from exeunt.engine.lanes.unit import Unit, empty_caches, enter_lane
from exeunt.engine.step.batch import gather, hidden_pair, run_head, run_packed, scatter, stack


@dataclass
class LaneProbe:
    """What a lane computed for N samples at full depth.

    hidden: [0] is the entry's output, [l] the state after layer l; each [N, T, D], or
    [N, rows, T, D] in a lane of several rows. states: the same for every carried state, by name.
    logits: by layer, [N, C]. final_logits: of the final head. scores: by criterion, [L, N] (NaN
    where a layer has no head).
    """

    hidden: list[Array] = field(default_factory=list)
    states: dict[str, list[Array]] = field(default_factory=dict)
    logits: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    final_logits: NDArray[np.float32] | None = None
    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def probe_lane(requests: list[Request], lane: LanePlan) -> LaneProbe:
    """Walk all requests through one lane together, recording every layer.

    The lane's units are left as finished in the requests, so that later lanes can join them.
    """
    units = [unit for request in requests for unit in enter_lane(request, lane)]
    for unit in units:
        unit.tensors |= empty_caches(lane)
    record = LaneProbe()
    names = _criteria(lane)
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    streaks: list[NDArray[np.int64]] = []
    answers = np.full(len(units), -1, dtype=np.int64)
    streak = np.zeros(len(units), dtype=np.int64)
    for place, stage in enumerate(lane.stages):
        before = {}
        if place >= lane.first_layer:
            before = {state: stack(units, state) for state in lane.spec.compare}
        if place == lane.first_layer:
            _record_states(record, lane, units, len(requests))
        if (context := lane.contexts.get(stage.layer)) is not None:
            scatter(context, units, context.segment.run(gather(context, units)))
        if lane.packed is not None and place >= lane.first_layer:
            run_packed(stage, units, lane.packed.mask)
        else:
            scatter(stage, units, stage.segment.run(gather(stage, units)))
        if stage.layer == 0:
            continue
        _record_states(record, lane, units, len(requests))
        logits = run_head(lane.heads[stage.layer], units) if stage.layer in lane.heads else None
        if logits is not None:
            record.logits[stage.layer] = logits
            answers, streak = next_streak(logits, answers, streak)
        streaks.append(streak)
        for name, score in _scores(names, lane, stage.layer, logits, before, units).items():
            rows[name].append(score)
    if lane.depth == 0:
        _record_states(record, lane, units, len(requests))
    if lane.final_head:
        record.final_logits = run_head(lane.final_head, units)
    record.scores = {name: np.stack(values) for name, values in rows.items() if values}
    if "patience" in lane.spec.scores and streaks:
        record.scores["patience"] = np.stack(streaks).astype(np.float32)
    for unit in units:
        unit.request.finished.setdefault(lane.name, []).append(unit)
    return record


def run_propagate(lane: LanePlan) -> None:
    """Run once what fills a lane's caches, on zeros: no walk to full depth gets there.

    Raises:
        SegmentError: a segment failed.
    """
    for stage in lane.propagate.values():
        feeds = {}
        for graph, text in stage.inputs:
            spec = lane.spec.state[text]
            shape = (1, *(1 if isinstance(dim, str) else dim for dim in spec.shape))
            feeds[graph] = np.zeros(shape, dtype=numpy_dtype(spec.dtype))
        stage.segment.run(feeds)


def _criteria(lane: LanePlan) -> dict[str, Criterion]:
    every: dict[str, Criterion] = {
        "entropy": Entropy(),
        "confidence": Confidence(),
        "margin": Margin(),
        "cosine": Cosine(),
    }
    return {name: every[name] for name in lane.spec.scores if name in every}


def _scores(
    criteria: dict[str, Criterion],
    lane: LanePlan,
    layer: int,
    logits: NDArray[np.float32] | None,
    before: dict[str, Array],
    units: list[Unit],
) -> dict[str, NDArray[np.float32]]:
    old, new, valid = (
        hidden_pair(lane.spec.compare, before, units) if "cosine" in criteria else (None,) * 3
    )
    evidence = Evidence(layer, logits, old, new, valid)
    nothing = np.full(len(units), np.nan, dtype=np.float32)
    return {
        name: nothing
        if criterion.reads == "logits" and logits is None
        else criterion.score(evidence)
        for name, criterion in criteria.items()
    }


def _record_states(record: LaneProbe, lane: LanePlan, units: list[Unit], samples: int) -> None:
    carried = [name for name, spec in lane.spec.state.items() if spec.role == "carried"]
    for place, name in enumerate(carried):
        if name not in units[0].tensors:
            continue
        state = stack(units, name)
        shape = (samples, lane.spec.rows) if lane.spec.rows > 1 else (samples,)
        state = state.reshape(*shape, *state.shape[1:]).copy()
        record.states.setdefault(name, []).append(state)
        if place == 0:
            record.hidden.append(state)
