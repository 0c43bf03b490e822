"""The state cache: what an encoder lane made of an input that has been seen before.

An image's lane does not depend on the text beside it, so a second question about one image need
not walk it again; and of two at once, the second waits for the first.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.exit_policy.compiled import LanePolicy
from exeunt.engine.lanes.plan import LanePlan, Plan
from exeunt.engine.lanes.request import LaneExit, Request
from exeunt.engine.lanes.unit import Unit

Array = NDArray[Any]
# A lane, blake3 of its raw inputs, and the rules that decide how deep it is walked. The bundle is
# the engine's, as the cache is.
Key = tuple[int, bytes, LanePolicy]


@dataclass(frozen=True, slots=True)
class LaneResult:
    """What a lane's units left with: for each, the states that others read, and its exit."""

    states: tuple[dict[str, Array], ...]
    exits: tuple[LaneExit, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the states."""
        return sum(int(array.nbytes) for unit in self.states for array in unit.values())


@dataclass
class CacheCounts:
    """What the cache has done. waited: requests that another one computed for at the moment."""

    hits: int = 0
    misses: int = 0
    waited: int = 0
    evicted: int = 0


@dataclass(slots=True, eq=False)
class _Computing:
    owner: Request
    waiters: list[Request] = field(default_factory=list)


class StateCache:
    """Results of lanes by what they were computed from, the least recently used given up first.

    Used by one thread at a time, but for `digests`, which any may call.

    plan: whose lanes. max_bytes: of all results; 0 switches the cache off.
    """

    def __init__(self, plan: Plan, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.counts = CacheCounts()
        self._read = {lane.index: _read_by_others(plan, lane) for lane in plan.lanes}
        self._inputs = {
            lane.name: _inputs(plan.manifest, lane)
            for lane in plan.lanes
            if max_bytes and _cacheable(plan, lane)
        }
        self._results: OrderedDict[Key, LaneResult] = OrderedDict()
        self._computing: dict[Key, _Computing] = {}
        self._orphans: deque[tuple[Request, LanePlan]] = deque()

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes whose results are kept."""
        return tuple(self._inputs)

    @property
    def entries(self) -> int:
        """Results that are kept."""
        return len(self._results)

    def digests(self, lanes: Sequence[LanePlan], tensors: Mapping[str, Array]) -> dict[str, bytes]:
        """Return blake3 of what each cached lane reads of a sample."""
        return {
            lane.name: _digest([tensors[name] for name in self._inputs[lane.name]])
            for lane in lanes
            if lane.name in self._inputs
        }

    def owned(self, lanes: Sequence[LanePlan], tensors: dict[str, Array]) -> dict[str, Array]:
        """Return the tensors, those that cached lanes read copied.

        A caller who writes to what was digested would let others have a result that is not theirs.
        """
        read = {name for lane in lanes for name in self._inputs.get(lane.name, ())}
        if not read:
            return tensors
        return {name: array.copy() if name in read else array for name, array in tensors.items()}

    def drop_abandoned(self) -> None:
        """Let go of requests that wait for another's result and whose callers have left."""
        for computing in self._computing.values():
            if any(waiter.abandoned for waiter in computing.waiters):
                left = [waiter for waiter in computing.waiters if waiter.abandoned]
                computing.waiters = [w for w in computing.waiters if not w.abandoned]
                for waiter in left:
                    waiter.let_go()

    def meet(self, request: Request, lane: LanePlan) -> bool:
        """Let a request meet its lane's result; return whether it need not walk the lane itself.

        It has the result then, as finished units, or waits for the one that another computes.
        """
        digest = request.digests.get(lane.name)
        if digest is None:
            return False
        key = (lane.index, digest, request.lane_policy(lane))
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
            self.counts.hits += 1
            self._give(request, lane, result)
            return True
        computing = self._computing.get(key)
        if computing is not None:
            self.counts.waited += 1
            request.entered.add(lane.name)
            computing.waiters.append(request)
            return True
        self.counts.misses += 1
        self._computing[key] = _Computing(request)
        return False

    def left(self, request: Request, lane: LanePlan, units: Sequence[Unit]) -> list[Request]:
        """Keep what a request's units left a lane with; return those that waited for it."""
        digest = request.digests.get(lane.name)
        if digest is None:
            return []
        key = (lane.index, digest, request.lane_policy(lane))
        computing = self._computing.get(key)
        if computing is None or computing.owner is not request:
            return []
        del self._computing[key]
        read = self._read[lane.index]
        result = LaneResult(
            tuple({name: unit.tensors[name].copy() for name in read} for unit in units),
            tuple(unit.exits[-1] for unit in units),
        )
        self._keep(key, result)
        going = [waiter for waiter in computing.waiters if not waiter.abandoned]
        for waiter in computing.waiters:
            if waiter.abandoned:
                waiter.let_go()
            else:
                self._give(waiter, lane, result)
        return going

    def gave_up(self, request: Request) -> None:
        """Note that a request has ended; who waited for what it had not finished must go on."""
        for name in request.digests if self._computing else ():
            lane = next(lane for lane in request.task.lanes if lane.name == name)
            key = (lane.index, request.digests[name], request.lane_policy(lane))
            computing = self._computing.get(key)
            if computing is None or computing.owner is not request:
                continue
            del self._computing[key]
            for waiter in computing.waiters:
                waiter.entered.discard(name)
                self._orphans.append((waiter, lane))

    def orphans(self) -> list[Request]:
        """Return, once, the requests that waited for one that has ended without a result."""
        found = [request for request, _ in self._orphans]
        self._orphans.clear()
        return found

    @property
    def has_orphans(self) -> bool:
        """Whether `orphans` would return some."""
        return bool(self._orphans)

    def waiting(self) -> list[Request]:
        """Return all requests that wait for another's result."""
        waiting = [waiter for one in self._computing.values() for waiter in one.waiters]
        return waiting + [request for request, _ in self._orphans]

    def _give(self, request: Request, lane: LanePlan, result: LaneResult) -> None:
        request.entered.add(lane.name)
        request.from_cache.add(lane.name)
        policy = request.lane_policy(lane)
        request.finished[lane.name] = [
            Unit(request, lane, policy, place * lane.unit_rows, dict(states), exits=[found])
            for place, (states, found) in enumerate(zip(result.states, result.exits, strict=True))
        ]

    def _keep(self, key: Key, result: LaneResult) -> None:
        if result.nbytes > self.max_bytes:
            return
        self._results[key] = result
        self.bytes += result.nbytes
        while self.bytes > self.max_bytes:
            _, old = self._results.popitem(last=False)
            self.bytes -= old.nbytes
            self.counts.evicted += 1


def _digest(arrays: Sequence[Array]) -> bytes:
    hasher = blake3()
    for array in arrays:
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return hasher.digest()


def _inputs(manifest: Manifest, lane: LanePlan) -> tuple[str, ...]:
    """Return the raw tensors that a lane reads, in the manifest's order."""
    read = {part.name for _, part in lane.resolved if part.scope == "input"}
    return tuple(name for name in manifest.tensors if name in read)


def _cacheable(plan: Plan, lane: LanePlan) -> bool:
    """Return whether a lane encodes pixels or features for others, and depends on nothing else."""
    if lane.spec.join or lane.spec.loop or not _read_by_others(plan, lane):
        return False
    if any(task.lane is lane for task in plan.tasks.values()):
        return False
    tensors = plan.manifest.tensors
    return any(
        tensors[name].dtype.startswith(("float", "uint")) and len(tensors[name].shape) > 1
        for name in _inputs(plan.manifest, lane)
    )


def _read_by_others(plan: Plan, lane: LanePlan) -> tuple[str, ...]:
    """Return the states of a lane that other lanes read."""
    read = {
        part.name for other in plan.lanes for _, part in other.resolved if part.scope == lane.name
    }
    return tuple(sorted(read))
