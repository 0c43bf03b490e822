"""Routing: what happens to a unit that left a lane."""

from collections.abc import Sequence

from exeunt.engine.answer import Answer, LaneReport, Timings
from exeunt.engine.criteria.base import answerable
from exeunt.engine.decoding.decoding import Decoding, Finished, search_of
from exeunt.engine.decoding.options import NOTHING_ASKED
from exeunt.engine.errors import ExeuntError, ModelOutputInvalid
from exeunt.engine.lanes.plan import LanePlan
from exeunt.engine.lanes.request import LaneExit, Request
from exeunt.engine.lanes.residents import Residents
from exeunt.engine.lanes.slabs import Slabs
from exeunt.engine.lanes.state_cache import StateCache
from exeunt.engine.lanes.unit import Unit, enter_lane
from exeunt.engine.stats import EngineStats


class Router:
    """Lets units into lanes, each with a slot in its lane's slab, and out of them again.

    slabs: where the units take their slots. residents: bounds who may be under way. stats: counts
    who left. cache: of lanes' results; none in a trial run.
    """

    def __init__(
        self,
        slabs: Slabs,
        residents: Residents,
        stats: EngineStats,
        cache: StateCache | None = None,
    ) -> None:
        self._slabs = slabs
        self.residents = residents
        self._stats = stats
        self._cache = cache if cache is not None and cache.lanes else None

    def start(self, request: Request) -> list[Unit]:
        """Return the units of the lanes that need no other; the request counts as resident."""
        if request.abandoned:
            return []
        self.residents.enter(request, self._cache.gave_up if self._cache else None)
        return self._enter_ready(request)

    def adopt(self) -> list[Unit]:
        """Return the units of requests that waited for another's result, which will not come."""
        if self._cache is None or not self._cache.has_orphans:
            return []
        entering: list[Unit] = []
        for request in self._cache.orphans():
            if request.abandoned:
                request.let_go()
            else:
                entering += self._enter_ready(request)
        return entering

    def drop_abandoned(self) -> None:
        """Let go of requests that wait for another's result and whose callers have left."""
        if self._cache is not None:
            self._cache.drop_abandoned()

    def waiting(self) -> list[Request]:
        """Return the requests that wait for another's result."""
        return [] if self._cache is None else self._cache.waiting()

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
        text: Finished | None = None
        if lane.spec.loop:
            try:
                going, text = request.decodings[lane.index].advance(unit, found)
            except ExeuntError as error:
                fail(request, error, self._stats, now_s)
                return []
            if text is None:
                return going
        through = request.finished.setdefault(lane.name, [])
        through.append(unit)
        if len(through) < lane.units:
            return []
        through.sort(key=lambda other: other.first_row)
        if lane is request.task.lane:
            _answer(request, unit, text, self._stats, now_s)
            return []
        waited = self._cache.left(request, lane, through) if self._cache else []
        return [unit for other in (request, *waited) for unit in self._enter_ready(other)]

    def _enter_ready(self, request: Request) -> list[Unit]:
        lanes = self._ready_lanes(request)
        entering = [unit for lane in lanes for unit in enter_lane(request, lane)]
        for unit in entering:
            unit.settle(self._slabs.of(unit.lane, request.shape_key))
            loop = unit.lane.spec.loop
            if loop is not None:
                # Only what is answered is searched for: a loop on the way takes the best tokens.
                last = unit.lane is request.task.lane
                asked = request.asked if last else NOTHING_ASKED
                told = request.on_token if last else None
                decoding = Decoding(search_of(asked, loop), told)
                decoding.begin(unit)
                request.decodings[unit.lane.index] = decoding
        request.units += entering
        return entering

    def _ready_lanes(self, request: Request) -> list[LanePlan]:
        """Return the lanes that a request has to walk now: not those whose result is known."""
        if self._cache is None or not request.digests:
            return request.ready_lanes()
        lanes: list[LanePlan] = []
        met = True
        while met:  # a result may open further lanes
            met = False
            for lane in request.ready_lanes():
                if lane in lanes:
                    continue
                if self._cache.meet(request, lane):
                    met = True
                else:
                    lanes.append(lane)
        return lanes


def fail(request: Request, error: Exception, stats: EngineStats, now_s: float) -> None:
    """End a request with an error, unless it has ended already."""
    request.let_go()
    if request.future.fail(error):
        kind = getattr(error, "error_type", "internal")
        stats.request_done(kind, _queue_s(request, now_s), now_s - request.submitted_s)


def _answer(
    request: Request, unit: Unit, text: Finished | None, stats: EngineStats, now_s: float
) -> None:
    exits = text.exits if text is not None else unit.exits
    deciding = exits[-1]
    logits = deciding.logits if text is None else text.logits
    if text is not None and text.scores is not None:
        logits = text.scores
    assert logits is not None, "an answering lane has heads"
    own = request.asked.tree is None  # else the request's answers have their own labels, or none
    queue_s, total_s = _queue_s(request, now_s), now_s - request.submitted_s
    chosen = None if text is None else text.index
    lanes = {
        name: LaneReport(
            max(_deepest(other.exits) for other in units),
            units[0].lane.depth,
            name in request.from_cache,
        )
        for name, units in request.finished.items()
    }
    lanes[unit.lane.name] = LaneReport(_deepest(exits), unit.lane.depth)
    answer = Answer(
        task=request.task.spec.name,
        labels=request.task.spec.labels if own else request.asked.labels,
        index=int(logits.argmax()) if chosen is None else chosen,
        logits=logits,
        exit_layer=_deepest(exits),
        depth=unit.lane.depth,
        criterion=deciding.criterion,
        reason="criterion" if deciding.fired else "depth",
        score=deciding.score,
        threshold=deciding.threshold,
        lanes=lanes,
        timings_ms=Timings(queue_s * 1e3, (total_s - queue_s) * 1e3, total_s * 1e3),
        policy_version=request.policy.version,
        tokens=() if text is None else text.tokens,
        token_exit_layers=() if text is None else tuple(found.layer for found in exits),
        text_score=None if text is None else text.score,
        detokenise=request.task.detokenise,
    )
    request.let_go()
    if request.future.resolve(answer):
        stats.request_done("answered", queue_s, total_s)


def _deepest(exits: Sequence[LaneExit]) -> int:
    return exits[0].layer if len(exits) == 1 else max(found.layer for found in exits)


def _queue_s(request: Request, now_s: float) -> float:
    started_s = now_s if request.started_s is None else request.started_s
    return started_s - request.submitted_s
