"""The simulator: what it must keep whatever it is fed, and queues whose answer is known."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exeunt.bench.load import poisson
from exeunt.bench.simulate import CostFile, Line, OwnTime
from exeunt.bench.simulate.costs import halfway
from exeunt.engine.scheduling import SegmentCost
from exeunt.engine.trace import Trace
from tests.bench.simulated import costs, lane, run, serve, settings

LAYERS = 6
DUAL = costs(
    lane("image", 3), lane("text", 2, beta_s=0.004), lane("fusion", 2, join=("image", "text"))
)
GROUPS = costs(lane(unit_rows=2), own=OwnTime(step_s=0.001, row_s=0.0005, request_s=0.0))

LOADS = st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, LAYERS)), min_size=1, max_size=60)


@given(load=LOADS, batch=st.integers(1, 9), residents=st.integers(9, 40))
def test_every_row_runs_each_layer_once_up_to_its_exit(
    load: list[tuple[float, int]], batch: int, residents: int
) -> None:
    times = sorted(at for at, _ in load)
    exits = [(layer,) for _, layer in load]
    engine = {"max_batch_rows": batch, "max_resident_rows": residents}
    outcomes, trace = serve(costs(), times, exits, engine)
    assert sorted(o.sample for o in outcomes) == list(range(len(load)))
    walked: dict[int, list[int]] = {}
    left: Counter[int] = Counter()
    for one in trace.batches:
        assert len(one.requests) <= batch
        assert len(set(one.requests)) == len(one.requests)
        left.update(number for number, _ in one.left)
        for number in one.requests:
            walked.setdefault(number, []).append(one.layer)
    for outcome in outcomes:
        assert outcome.reading is not None
        drawn = exits[outcome.sample][0]
        assert outcome.reading.exit_layer == outcome.reading.layers_run == drawn
        assert walked[outcome.sample + 1] == list(range(drawn + 1))
    assert set(left.values()) == {1}


@given(load=LOADS, batch=st.integers(1, 9), residents=st.integers(9, 40))
def test_batches_follow_each_other_and_nothing_waits_beside_an_idle_engine(
    load: list[tuple[float, int]], batch: int, residents: int
) -> None:
    times = sorted(at for at, _ in load)
    exits = [(layer,) for _, layer in load]
    engine = {"max_batch_rows": batch, "max_resident_rows": residents}
    outcomes, trace = serve(costs(), times, exits, engine)
    for one in trace.batches:
        rows = len(one.requests)
        assert one.ended_s - one.started_s == pytest.approx(0.001 + 0.002 * rows)
    gaps = [(0.0, trace.batches[0].started_s)]
    gaps += [(one.ended_s, other.started_s) for one, other in pairwise(trace.batches)]
    for start_s, end_s in gaps:
        assert start_s <= end_s
        if start_s < end_s:
            waiting = [o for o in outcomes if o.scheduled_s < end_s and o.done_s > start_s]
            assert not waiting
    spans = [
        (min(times_of), max(times_of))
        for times_of in (
            [t for b in trace.batches if n in b.requests for t in (b.started_s, b.ended_s)]
            for n in range(1, len(load) + 1)
        )
    ]
    for _, end_s in spans:
        assert sum(first < end_s <= last for first, last in spans) <= residents


def test_one_row_in_flight_takes_the_sum_of_its_costs() -> None:
    own = OwnTime(step_s=0.002, row_s=0.001, request_s=0.0005)
    given = costs(lane(alpha_s=0.0, beta_s=0.004), own=own)
    outcomes, _ = serve(given, [0.0, 10.0], [(3,), (6,)], {"max_batch_rows": 8})
    for outcome, stages in zip(outcomes, (4, 7), strict=True):
        assert outcome.latency_s == pytest.approx(0.0005 + stages * 0.007)


def test_a_queue_of_single_rows_is_an_m_d_1_queue() -> None:
    """Pollaczek-Khinchine: T = D + rho D / (2 (1 - rho)), for Poisson arrivals and service D."""
    service_s, rate = 0.01, 70.0
    given = costs(lane(layers=1, alpha_s=0.0, beta_s=service_s / 2))
    times = poisson(rate, 400.0, seed=3).times_s
    exits = [(1,)] * len(times)
    engine = {"max_batch_rows": 1, "max_queued_rows": 100_000, "max_wait_s": 1e6}
    outcomes, trace = serve(given, times.tolist(), exits, engine)
    load = rate * service_s
    expected_s = service_s + load * service_s / (2 * (1 - load))
    assert np.mean([o.latency_s for o in outcomes]) == pytest.approx(expected_s, rel=0.05)
    busy_s = sum(b.ended_s - b.started_s for b in trace.batches)
    assert busy_s / 400.0 == pytest.approx(load, rel=0.02)


def test_requests_under_way_are_rate_times_latency() -> None:
    wanted = settings({"rate": 60.0, "seconds": 120.0, "warm_up": 5.0}, {"max_batch_rows": 8})
    given = costs(own=OwnTime(step_s=2e-4, row_s=1e-4, request_s=1e-4))
    trace = Trace()
    found = run(given, wanted, trace)
    mean_s, rate = found.measurement.mean_ms, found.measurement.requests_per_second
    assert mean_s is not None
    # Seen from the batches: whoever is between its arrival and its last batch is under way. The
    # arrivals are the schedule's, the ends are the trace's.
    times = poisson(60.0, 125.0, [0, 0]).times_s
    ends = {n: b.ended_s for b in trace.batches for n, _ in b.left}
    moments = np.random.default_rng(0).uniform(5.0, 125.0, 4000)
    done = np.array([ends[number] for number in range(1, len(times) + 1)])
    under_way = (times[:, None] <= moments) & (done[:, None] > moments)
    assert under_way.sum(axis=0).mean() == pytest.approx(rate * mean_s / 1e3, rel=0.05)


def test_a_closed_loop_keeps_the_engine_busy_and_its_batches_full() -> None:
    found = run(costs(), settings({"in_flight": 64, "seconds": 20.0}, {"max_batch_rows": 8}))
    assert found.log.utilisation == pytest.approx(1.0, abs=1e-3)
    assert set(found.log.reasons) == {"worthwhile"}
    full = {place: count.fill for (_, place), count in found.log.stages.items()}
    assert full[0] == 8.0
    # Little: 64 in flight = X T.
    rate, mean_ms = found.measurement.requests_per_second, found.measurement.mean_ms
    assert mean_ms is not None
    assert rate * mean_ms / 1e3 == pytest.approx(64, rel=0.02)
    assert found.measurement.rho == pytest.approx(3.5 / 6, rel=0.01)


def test_streams_run_batches_at_once() -> None:
    """Two streams whose batches take as long as one's serve twice as much, never more at a time."""
    load, given = {"in_flight": 64, "seconds": 20.0}, costs()
    one, trace = run(given, settings(load, {"max_batch_rows": 8})), Trace()
    two = run(given, settings(load, {"max_batch_rows": 8, "streams": 2, "threads": 2}), trace)
    assert two.log.utilisation == pytest.approx(1.0, abs=1e-3)
    rates = [found.measurement.requests_per_second for found in (one, two)]
    assert rates[1] == pytest.approx(2 * rates[0], rel=0.03)
    for stream in (0, 1):
        own = [batch for batch in trace.batches if batch.stream == stream]
        assert own
        for earlier, later in pairwise(sorted(own, key=lambda batch: batch.started_s)):
            assert earlier.ended_s <= later.started_s + 1e-9
    ends = [batch.ended_s for batch in trace.batches]
    assert ends == sorted(ends)


def test_a_cost_file_is_simulated_with_a_stream_more_at_low_load() -> None:
    wanted = {"rate": 20.0, "seconds": 50.0, "arrivals": "constant"}
    given = costs(lane(alpha_s=0.0, beta_s=0.001))
    one, two = (
        run(given, settings(wanted, {"streams": streams, "threads": streams})) for streams in (1, 2)
    )
    assert two.measurement.mean_ms == pytest.approx(one.measurement.mean_ms)
    assert two.log.utilisation == pytest.approx(one.log.utilisation / 2)


def test_the_window_counts_the_busy_time_inside_it() -> None:
    wanted = settings({"rate": 20.0, "seconds": 50.0, "warm_up": 10.0, "arrivals": "constant"})
    found = run(costs(lane(alpha_s=0.0, beta_s=0.001)), wanted)
    # 20 requests/s, each 1 + 3.5 stages of a millisecond on average.
    assert found.log.utilisation == pytest.approx(20 * 4.5 * 0.001, rel=0.02)


def test_equal_seeds_give_equal_runs() -> None:
    def latencies(seed: int) -> list[float]:
        wanted = settings({"rate": 80.0, "seconds": 5.0, "seed": seed})
        kept: list[float] = run(costs(), wanted).measurement.latencies_ms.tolist()
        return kept

    assert latencies(1) == latencies(1)
    assert latencies(1) != latencies(2)


def test_a_full_queue_refuses() -> None:
    engine: dict[str, object] = {"max_batch_rows": 2, "max_queued_rows": 4}
    outcomes, _ = serve(costs(), [0.0] * 7, [(6,)] * 7, engine)
    assert Counter(o.error for o in outcomes) == {None: 4, "queue_full": 3}


def test_a_lane_waits_for_the_lanes_that_it_joins() -> None:
    exits = [(1, 2, 1), (3, 1, 2), (2, 2, 2)]
    outcomes, trace = serve(DUAL, [0.0, 0.001, 0.002], exits, {"max_batch_rows": 4})
    for outcome in outcomes:
        assert outcome.reading is not None
        assert outcome.reading.layers_run == sum(exits[outcome.sample])
        assert outcome.reading.layers_possible == 7
        mine = [b for b in trace.batches if outcome.sample + 1 in b.requests]
        ended = max(b.ended_s for b in mine if b.lane != "fusion")
        assert min(b.started_s for b in mine if b.lane == "fusion") >= ended
        for index, name in enumerate(("image", "text", "fusion")):
            layers = [b.layer for b in mine if b.lane == name]
            assert layers == list(range(exits[outcome.sample][index] + 1))


def test_the_rows_of_a_group_are_paid_and_counted_together() -> None:
    outcomes, trace = serve(GROUPS, [0.0] * 3, [(2,)] * 3, {"max_batch_rows": 4})
    assert [len(b.requests) for b in trace.batches] == [2, 2, 2, 1, 1, 1]
    first = trace.batches[0]
    assert first.ended_s - first.started_s == pytest.approx(0.002 + 4 * 0.0025)
    assert all(o.reading and o.reading.layers_run == 2 for o in outcomes)


def test_two_units_of_a_request_are_answered_when_both_are_through() -> None:
    outcomes, trace = serve(costs(lane(units=2)), [0.0] * 3, [(2,)] * 3, {"max_batch_rows": 3})
    assert len(outcomes) == 3
    assert sum(len(b.requests) for b in trace.batches) == 3 * 2 * 3


def test_a_deadline_goes_first_while_it_can_be_met() -> None:
    wanted = {"rate": 75.0, "seconds": 20.0}
    slow = settings(wanted, {"max_batch_rows": 8})
    fast = settings(wanted, {"max_batch_rows": 8, "latency_target_s": 0.08})
    assert "deadline" not in run(costs(), slow).log.reasons
    found = run(costs(), fast)
    assert found.log.reasons["deadline"].batches > 0
    assert found.measurement.goodput is not None


def test_rows_that_wait_too_long_go_first() -> None:
    wanted = settings({"in_flight": 64, "seconds": 5.0}, {"max_batch_rows": 4, "max_wait_s": 0.05})
    assert run(costs(), wanted).log.reasons["aged"].batches > 0


def test_cheaper_segments_are_never_slower() -> None:
    def mean_ms(given: CostFile) -> float:
        found = run(given, settings({"rate": 60.0, "seconds": 20.0}, {"max_batch_rows": 8}))
        return found.measurement.mean_ms or math.nan

    assert (
        mean_ms(costs(lane(beta_s=0.0015))) < mean_ms(costs()) < mean_ms(costs(lane(alpha_s=0.003)))
    )


def test_what_the_policy_plans_with_may_differ_from_what_batches_take() -> None:
    plain = costs(lane(alpha_s=0.010, beta_s=0.001))
    hope = Line(alpha_s=0.0, beta_s=0.001)
    stages = tuple(s.model_copy(update={"planned": hope}) for s in plain.lanes[0].stages)
    hopeful = costs(plain.lanes[0].model_copy(update={"stages": stages}))
    assert hopeful.planned.stages[0, 1] == SegmentCost(0.0, 0.001)
    wanted = settings({"rate": 80.0, "seconds": 20.0}, {"max_batch_rows": 8})
    fill = [run(c, wanted).log.stages[0, 3].fill for c in (plain, hopeful)]
    assert fill[1] < fill[0]  # it takes single rows for worth their batch, and pays for it


def test_a_slow_spell_lasts_as_many_batches_as_it_was_met_for() -> None:
    spells = (2.0, 2.0, 2.0, 0.5, 0.5, 0.5)
    slow = costs(lane("joint", 1)).model_copy(update={"spread": spells})
    _, even = serve(costs(lane("joint", 1)), [0.0] * 24, [(1,)] * 24, {"max_batch_rows": 1})
    _, trace = serve(slow, [0.0] * 24, [(1,)] * 24, {"max_batch_rows": 1})
    factors = [
        (one.ended_s - one.started_s) / (other.ended_s - other.started_s)
        for one, other in zip(trace.batches, even.batches, strict=True)
    ]
    turns = sum(not math.isclose(one, other) for one, other in pairwise(factors))
    assert {round(factor, 6) for factor in factors} == {2.0, 0.5}
    assert turns in (len(factors) // 3 - 1, len(factors) // 3), "spells of three batches"


def test_costs_between_two_measurements_lie_halfway() -> None:
    before = costs(lane("joint", 2, beta_s=0.002), own=OwnTime(step_s=0.001, row_s=0, request_s=0))
    after = costs(lane("joint", 2, beta_s=0.004), own=OwnTime(step_s=0.003, row_s=0, request_s=0))
    between = halfway(before, after.model_copy(update={"spread": (1.5,)}))
    assert [stage.beta_s for stage in between.lanes[0].stages] == pytest.approx([0.003] * 3)
    assert between.own.step_s == pytest.approx(0.002)
    assert between.spread == (1.5,)
