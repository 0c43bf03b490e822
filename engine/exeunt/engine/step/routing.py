"""Routing: what happens to a unit that left a lane."""

from collections.abc import Sequence

from exeunt.engine.answer import Answer, LaneReport, Timings
from exeunt.engine.criteria.base import answerable
from exeunt.engine.errors import ModelOutputInvalid
from exeunt.engine.lanes.request import LaneExit, Request
from exeunt.engine.lanes.residents import Residents
from exeunt.engine.lanes.slabs import Slabs
from exeunt.engine.lanes.unit import Unit, enter_lane
from exeunt.engine.stats import EngineStats


class Router:
    """Lets units into lanes, each with a slot in its lane's slab, and out of them again.

    slabs: where the units take their slots. residents: bounds who may be under way. stats: counts
    who left.
    """

    def __init__(self, slabs: Slabs, residents: Residents, stats: EngineStats) -> None:
        self._slabs = slabs
        self.residents = residents
        self._stats = stats

    def start(self, request: Request) -> list[Unit]:
        """Return the units of the lanes that need no other; the request counts as resident."""
        if request.abandoned:
            return []
        self.residents.enter(request)
        return self._enter_ready(request)

    def route(self, unit: Unit, found: LaneExit, now_s: float) -> list[Unit]:
        """Let a unit leave its lane (or a loop's step) and return the units that wait next.

        Resolves the request's future when its answering lane is through.
        """
        request, lane = unit.request, unit.lane
        unit.exits.append(found)
        self._stats.unit_left(lane.name, lane.depth, found)
        if request.abandoned:  # it failed elsewhere, or its caller has left: nothing goes on
            request.let_go()
            return []
        # Who left by a rule has been judged by finite logits.
        if not found.fired and found.logits is not None and not answerable(found.logits):
            error = ModelOutputInvalid(
                f"lane {lane.name!r} answered with logits that are not finite numbers at layer"
                f" {found.layer}: check the checkpoint and its precision"
            )
            fail(request, error, self._stats, now_s)
            return []
        if lane.spec.loop and not _loop_ends(unit, found):
            unit.next_step()
            return [unit]
        through = request.finished.setdefault(lane.name, [])
        through.append(unit)
        if len(through) < lane.units:
            return []
        through.sort(key=lambda other: other.first_row)
        if lane is request.task.lane:
            _answer(request, unit, self._stats, now_s)
            return []
        return self._enter_ready(request)

    def _enter_ready(self, request: Request) -> list[Unit]:
        entering = [unit for lane in request.ready_lanes() for unit in enter_lane(request, lane)]
        for unit in entering:
            unit.settle(self._slabs.of(unit.lane, request.shape_key))
        request.units += entering
        return entering


def fail(request: Request, error: Exception, stats: EngineStats, now_s: float) -> None:
    """End a request with an error, unless it has ended already."""
    request.let_go()
    if request.future.fail(error):
        kind = getattr(error, "error_type", "internal")
        stats.request_done(kind, _queue_s(request, now_s), now_s - request.submitted_s)


def _loop_ends(unit: Unit, found: LaneExit) -> bool:
    """Take the step's token and return whether it was the last one."""
    loop = unit.lane.spec.loop
    assert loop is not None, "only called in a loop lane"
    assert found.logits is not None, "a loop lane has a head"
    token = int(found.logits.argmax())
    unit.tokens.append(token)
    return token == loop.eos or len(unit.tokens) >= loop.max_steps


def _answer(request: Request, unit: Unit, stats: EngineStats, now_s: float) -> None:
    deciding, exits = unit.exits[-1], unit.exits
    assert deciding.logits is not None, "an answering lane has heads"
    queue_s, total_s = _queue_s(request, now_s), now_s - request.submitted_s
    answer = Answer(
        task=request.task.spec.name,
        labels=request.task.spec.labels,
        index=int(deciding.logits.argmax()),
        logits=deciding.logits,
        exit_layer=_deepest(exits),
        depth=unit.lane.depth,
        criterion=deciding.criterion,
        reason="criterion" if deciding.fired else "depth",
        score=deciding.score,
        threshold=deciding.threshold,
        lanes={
            name: LaneReport(max(_deepest(other.exits) for other in units), units[0].lane.depth)
            for name, units in request.finished.items()
        },
        timings_ms=Timings(queue_s * 1e3, (total_s - queue_s) * 1e3, total_s * 1e3),
        policy_version=request.policy.version,
        tokens=tuple(unit.tokens),
        token_exit_layers=tuple(found.layer for found in exits) if unit.tokens else (),
    )
    request.let_go()
    if request.future.resolve(answer):
        stats.request_done("answered", queue_s, total_s)


def _deepest(exits: Sequence[LaneExit]) -> int:
    return exits[0].layer if len(exits) == 1 else max(found.layer for found in exits)


def _queue_s(request: Request, now_s: float) -> float:
    started_s = now_s if request.started_s is None else request.started_s
    return started_s - request.submitted_s
