"""The scheduling policy, a pure function, and the scheduler under a clock that the test moves."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.exit_policy import compile_policy, never
from exeunt.engine.lanes import LanePlan, Plan, Request, Unit, build_plan
from exeunt.engine.pending import Pending
from exeunt.engine.scheduling import Choice, PolicySettings, Queue, Scheduler, choose
from exeunt.engine.scheduling.scheduler import check_batch_rows
from exeunt.engine.scheduling.table import StageTable
from tests.engine.golden_manifests import uniter_nlvr2
from tests.support.manifests import fake_bundle, single_stream

SETTINGS = PolicySettings(max_wait_s=1.0, urgent_s=0.1)
QUEUES = st.lists(
    st.builds(
        Queue,
        st.tuples(st.integers(0, 2), st.integers(0, 6)),
        st.integers(1, 40),
        st.floats(0, 10),
        st.integers(1, 20),
        st.one_of(st.just(math.inf), st.floats(-5, 20)),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ([Queue((0, 1), 1, 0.0)], 0),
        ([Queue((0, 1), 8, 0.0), Queue((0, 4), 3, 0.0)], 1),
        ([Queue((0, 1), 8, 0.0), Queue((0, 4), 2, 0.0)], 0),
        ([Queue((0, 1), 2, 0.0), Queue((0, 4), 1, 0.0)], 1),
        ([Queue((0, 6), 9, 0.5), Queue((1, 0), 9, 0.5)], 1),
        ([Queue((0, 2), 3, 0.4), Queue((0, 2), 9, 0.3)], 1),
        ([Queue((0, 1), 1, -0.02), Queue((0, 4), 30, 0.0)], 0),
        ([Queue((0, 1), 1, -2.0), Queue((0, 2), 1, -3.0), Queue((0, 4), 30, 0.9)], 1),
    ],
    ids=[
        "the only one",
        "the deepest that is worth a batch",
        "not a deep one that is too small",
        "the deepest where all are small",
        "a later lane is deeper",
        "the older of equal depths",
        "one that has waited too long",
        "the longest of several that have waited too long",
    ],
)
def test_the_policy_chooses(queues: list[Queue], expected: int) -> None:
    assert choose(queues, SETTINGS, now_s=0.99).place == expected


def late(rows: int, latest_start_s: float, layer: int = 1) -> Queue:
    return Queue((0, layer), rows, 0.5, 3, latest_start_s)


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ([late(1, 1.05), Queue((0, 4), 30, 0.5)], Choice(0, "deadline")),
        ([late(1, 1.05), late(9, 1.03), Queue((0, 4), 30, 0.5)], Choice(1, "deadline")),
        ([late(1, 0.98), Queue((0, 4), 30, 0.5)], Choice(1, "worthwhile")),
        ([late(1, 1.20), Queue((0, 4), 30, 0.5)], Choice(1, "worthwhile")),
        ([late(1, 1.05), Queue((0, 1), 1, -0.5)], Choice(1, "aged")),
        ([late(1, 1.20), late(2, 1.20, layer=3)], Choice(1, "deepest")),
    ],
    ids=[
        "a row that cannot wait for another batch",
        "the one that must start first",
        "not one whose deadline is lost",
        "not one that has time",
        "not before one that starves",
        "nothing worthwhile",
    ],
)
def test_deadlines_go_first_while_they_can_be_met(queues: list[Queue], expected: Choice) -> None:
    assert choose(queues, SETTINGS, now_s=0.99) == expected


@given(queues=QUEUES, now_s=st.floats(0, 12))
def test_the_policy_is_a_pure_choice_of_what_waits(queues: list[Queue], now_s: float) -> None:
    choice = choose(queues, SETTINGS, now_s)
    assert choice == choose(list(queues), SETTINGS, now_s)
    queue = queues[choice.place]
    oldest = min(other.oldest_s for other in queues)
    if now_s - oldest > SETTINGS.max_wait_s:
        assert choice.reason == "aged"
        assert queue.oldest_s == oldest
        return
    urgent = [q for q in queues if 0 <= q.latest_start_s - now_s < SETTINGS.urgent_s]
    if urgent:
        assert choice.reason == "deadline"
        assert queue.latest_start_s == min(q.latest_start_s for q in urgent)
        return
    full = [other for other in queues if other.rows >= other.worthwhile_rows]
    assert choice.reason == ("worthwhile" if full else "deepest")
    worth = full or queues
    assert queue in worth
    assert queue.depth == max(other.depth for other in worth)


def plan_of(manifest: Manifest) -> Plan:
    backend, bundle = FakeBackend(), fake_bundle(manifest)
    return build_plan(manifest, lambda name: backend.load(manifest, bundle.root, name))


def unit(plan: Plan, *, size: int = 5, stage: int = 0) -> Unit:
    """Return a unit that waits for a stage of the plan's only lane."""
    task = next(iter(plan.tasks.values()))
    policy = compile_policy(never(), plan.manifest)
    request = Request(task, {}, ((size,),), policy, Pending(), 0.0)
    lane = plan.lanes[0]
    return Unit(request, lane, request.lane_policy(lane), 0, {}, stage=stage)


SINGLE = plan_of(single_stream(layers=6))
PAIRS = plan_of(uniter_nlvr2())


@given(
    places=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 2), st.booleans()), max_size=60),
    max_batch_rows=st.integers(2, 9),
    plan=st.sampled_from([SINGLE, PAIRS]),
    streams=st.integers(1, 4),
)
def test_every_unit_is_handed_out_once_in_batches_that_fit(
    places: list[tuple[int, int, bool]], max_batch_rows: int, plan: Plan, streams: int
) -> None:
    scheduler = Scheduler(max_batch_rows, SETTINGS)
    units = [unit(plan, size=size, stage=min(stage, 4)) for stage, size, _ in places]
    for one, (_, _, gone) in zip(units, places, strict=True):
        scheduler.add([one], 0.0)
        if gone:
            one.request.future.cancel()
    seen: list[Unit] = []
    while batch := scheduler.next_batch(0.5, streams):
        assert sum(one.rows for one in batch) <= max_batch_rows
        assert len({(one.stage, one.request.shape_key) for one in batch}) == 1
        assert not any(one.request.abandoned for one in batch)
        seen += batch
    assert scheduler.idle
    assert scheduler.waiting_rows() == {}
    expected = [one for one, (_, _, gone) in zip(units, places, strict=True) if not gone]
    assert Counter(map(id, seen)) == Counter(map(id, expected))
    for stage in range(5):  # first come, first served
        for size in (1, 2):
            key = (stage, ((size,),))
            kept = [one for one in expected if (one.stage, one.request.shape_key) == key]
            assert [one for one in seen if (one.stage, one.request.shape_key) == key] == kept


def test_units_that_gave_up_do_not_take_places_in_a_batch() -> None:
    scheduler = Scheduler(4, SETTINGS)
    units = [unit(SINGLE) for _ in range(8)]
    scheduler.add(units, 0.0)
    for one in units[:3]:
        one.request.future.cancel()
    assert scheduler.next_batch(0.0) == units[3:7]


@pytest.mark.parametrize(
    ("waiting", "streams", "rows"),
    [(12, 2, 6), (12, 1, 8), (13, 2, 7), (40, 2, 8), (4, 2, 3), (2, 2, 2)],
    ids=["halves", "alone", "odd", "full batches", "worthwhile ones", "few"],
)
def test_idle_streams_share_out_what_waits(waiting: int, streams: int, rows: int) -> None:
    scheduler = Scheduler(8, SETTINGS, StageTable(default_rows=3))
    scheduler.add([unit(SINGLE) for _ in range(waiting)], 0.0)
    assert len(scheduler.next_batch(0.0, streams)) == rows


def test_waiting_rows_are_counted_by_lane_and_stage() -> None:
    scheduler = Scheduler(8, SETTINGS)
    scheduler.add([unit(PAIRS, stage=1), unit(PAIRS, stage=1, size=9), unit(PAIRS, stage=3)], 0.0)
    assert scheduler.waiting_rows() == {(0, 1): 4, (0, 3): 2}
    assert len(scheduler.drain()) == 3
    assert scheduler.idle


@dataclass
class Simulation:
    """Feeds a scheduler from a clock of its own; each batch takes 10 ms."""

    scheduler: Scheduler
    lane: LanePlan
    now_s: float = 0.0
    longest_wait_s: float = 0.0

    def step(self, exits_at: int) -> int:
        batch = self.scheduler.next_batch(self.now_s)
        if batch:
            waited = max(self.now_s - one.waiting_s for one in batch)
            self.longest_wait_s = max(self.longest_wait_s, waited)
        self.now_s += 0.01
        for one in batch:
            one.stage += 1
        self.scheduler.add([one for one in batch if one.stage < exits_at], self.now_s)
        return sum(one.stage >= exits_at for one in batch)


@pytest.mark.parametrize("load", [0.5, 1.0, 3.0])
def test_no_row_starves_under_a_steady_stream(load: float) -> None:
    """A lone row of another shape shares no batch, and others keep arriving around it."""
    random = np.random.default_rng(1)
    scheduler = Scheduler(8, PolicySettings(max_wait_s=0.2))
    simulation = Simulation(scheduler, SINGLE.lanes[0])
    lonely = unit(SINGLE, size=99)
    scheduler.add([lonely], 0.0)
    backlog = 0
    for _ in range(600):
        arrivals = min(int(random.poisson(load)), 64 - backlog)  # admission bounds what waits
        scheduler.add([unit(SINGLE) for _ in range(arrivals)], simulation.now_s)
        backlog += arrivals - simulation.step(exits_at=7)
    assert lonely.stage == 7, "the row that shares no batch is through"
    # Beyond max_wait_s a row waits at most for those that have waited longer: 64 in the queues.
    assert simulation.longest_wait_s < 0.2 + 64 * 0.01


def test_without_ageing_the_same_row_would_starve() -> None:
    """The test above can fail: it does, with an age that is never reached."""
    scheduler = Scheduler(8, PolicySettings(max_wait_s=1e9))
    simulation = Simulation(scheduler, SINGLE.lanes[0])
    lonely = unit(SINGLE, size=99)
    scheduler.add([lonely], 0.0)
    for _ in range(300):
        scheduler.add([unit(SINGLE) for _ in range(8)], simulation.now_s)
        simulation.step(exits_at=7)
    assert lonely.stage == 0


def test_batches_must_hold_the_largest_group() -> None:
    assert check_batch_rows(2, PAIRS.lanes) is None
    wrong = check_batch_rows(1, PAIRS.lanes)
    assert wrong is not None
    assert "raise it to 2" in wrong
