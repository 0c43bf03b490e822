"""Figures of runs whose outcomes are known."""

import numpy as np
import pytest

from exeunt.bench.load import Outcome, Reading, Run, agreement, measure
from exeunt.bench.load.measure import Measurement
from exeunt.bench.load.settings import SHARES
from exeunt.bench.load.sweep import (
    KNEE_FACTOR,
    knee,
    low_load_limit_ms,
    plan_points,
)

LABELS = ["cat", "dog", None]


def _reading(label: str = "cat", exit_layer: int = 2, depth: int = 4) -> Reading:
    return Reading(label, ["cat", "dog"].index(label), exit_layer, depth, exit_layer + 1, depth + 2)


def _outcome(
    scheduled_s: float,
    latency_s: float,
    *,
    sample: int = 0,
    error: str | None = None,
    late_s: float = 0.0,
    reading: Reading | None = None,
) -> Outcome:
    found = None if error else reading or _reading()
    return Outcome(sample, scheduled_s, scheduled_s + late_s, scheduled_s + latency_s, error, found)


def _open(*outcomes: Outcome, seconds: float = 10.0, share: float = 0.1) -> Run:
    return Run(outcomes, 1.0, seconds, open_loop=True, generator_share=share)


def _closed(*outcomes: Outcome, gave_up: str | None = None, share: float = 0.1) -> Run:
    return Run(outcomes, 1.0, 10.0, open_loop=False, generator_share=share, gave_up=gave_up)


def test_percentiles_of_known_latencies() -> None:
    latencies_s = np.random.default_rng(0).permutation(np.arange(1, 1001)) / 1000
    found = measure(_open(*(_outcome(2.0, float(one)) for one in latencies_s)), LABELS, 250.0)
    assert found.percentile_ms(50) == pytest.approx(500.5)
    assert found.percentile_ms(95) == pytest.approx(950.05)
    assert found.percentile_ms(99) == pytest.approx(990.01)
    assert found.mean_ms == pytest.approx(500.5)
    assert found.goodput == 25.0
    assert found.requests_per_second == 100.0
    assert found.problems == ()


def test_an_open_loop_is_measured_over_what_was_scheduled_in_the_window() -> None:
    found = measure(
        _open(
            _outcome(0.9, 0.5),  # of the warm-up, though it ends in the window
            _outcome(1.0, 0.5),
            _outcome(10.9, 5.0),  # ends long after the window
            _outcome(11.0, 0.1),  # after the window
        ),
        LABELS,
        1000.0,
    )
    assert found.requests == found.answered == 2
    assert found.latencies_ms == pytest.approx([500.0, 5000.0])
    assert found.offered == 0.2
    assert found.requests_per_second == 0.2  # those that ended in it
    assert found.goodput == 0.1


def test_a_closed_loop_is_measured_over_what_ended_in_the_window() -> None:
    found = measure(
        _closed(_outcome(0.5, 0.4), _outcome(0.9, 0.5), _outcome(10.0, 0.9), _outcome(10.9, 0.2)),
        LABELS,
    )
    assert found.latencies_ms == pytest.approx([500.0, 900.0])
    assert found.requests_per_second == 0.2
    assert found.lag is None
    assert found.goodput is None


def test_errors_are_counted_by_type_and_are_no_answers() -> None:
    found = measure(
        _open(
            _outcome(2.0, 0.1),
            _outcome(3.0, 0.1, error="queue_full"),
            _outcome(4.0, 0.1, error="timeout"),
            _outcome(5.0, 0.1, error="queue_full"),
        ),
        LABELS,
        1000.0,
    )
    assert found.errors == {"queue_full": 2, "timeout": 1}
    assert (found.requests, found.answered, found.error_share) == (4, 1, 0.75)
    assert found.goodput == 0.1
    assert found.share_within(1000.0) == 0.25


def test_rho_exits_and_accuracy() -> None:
    found = measure(
        _open(
            _outcome(2.0, 0.1, sample=0, reading=_reading("cat", 1)),
            _outcome(3.0, 0.1, sample=1, reading=_reading("cat", 4)),
            _outcome(4.0, 0.1, sample=2, reading=_reading("dog", 1)),
        ),
        LABELS,
    )
    assert found.accuracy == 0.5  # the third sample has no label
    assert found.rho == (2 + 5 + 2) / 18  # over all lanes, not the answering one alone
    assert found.exits == {1: 2, 2: 0, 3: 0, 4: 1}


def test_agreement_is_over_samples_that_both_answered() -> None:
    answered = [_outcome(2.0, 0.1, sample=n, reading=_reading("cat")) for n in range(3)]
    full = [
        _outcome(2.0, 0.1, sample=0, reading=_reading("cat")),
        _outcome(2.0, 0.1, sample=1, reading=_reading("dog")),
        _outcome(2.0, 0.1, sample=2, error="timeout"),
    ]
    one, other = measure(_open(*answered), LABELS), measure(_open(*full), LABELS)
    assert agreement(one, other) == 0.5
    assert agreement(one, measure(_open(full[2]), LABELS)) is None


def test_nothing_answered_has_no_figures() -> None:
    found = measure(_open(_outcome(2.0, 0.1, error="timeout")), LABELS, 10.0)
    assert (found.mean_ms, found.percentile_ms(99), found.rho, found.accuracy) == (None,) * 4
    assert (found.goodput, found.requests_per_second) == (0.0, 0.0)
    empty = measure(_open(), LABELS)
    assert (empty.requests, empty.error_share, empty.lag) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("late_ms", "latency_ms", "valid"),
    [(0.4, 1.0, True), (0.6, 1.0, False), (0.6, 7.0, True), (9.0, 100.0, True), (11, 100.0, False)],
)
def test_a_generator_that_sends_late_is_called_so(
    late_ms: float, latency_ms: float, valid: bool
) -> None:
    outcomes = [_outcome(2.0, latency_ms / 1e3, late_s=late_ms / 1e3) for _ in range(200)]
    found = measure(_open(*outcomes), LABELS)
    assert found.lag is not None
    assert found.lag.p99_ms == pytest.approx(late_ms)
    assert (found.problems == ()) == valid
    assert valid or "the load generator was the bottleneck" in found.problems[0]


def test_what_else_is_not_to_be_trusted() -> None:
    enough = [_outcome(2.0, 0.1)] * 200
    assert measure(_open(*enough), LABELS).problems == ()
    busy = measure(_closed(*enough, share=0.95), LABELS).problems
    assert "busy for 95% of the time" in busy[0]
    assert (
        "cut short: all failed"
        in measure(_closed(*enough, gave_up="all failed"), LABELS).problems[0]
    )
    assert "only 99 answers" in measure(_open(*enough[:99]), LABELS).problems[0]


def _at(latency_ms: float, failed: int = 0, late_s: float = 0.0) -> Measurement:
    answered = [_outcome(2.0, latency_ms / 1e3, late_s=late_s) for _ in range(1000 - failed)]
    errors = [_outcome(2.0, 0.0, error="queue_full")] * failed
    return measure(_open(*answered, *errors), LABELS)


def test_the_knee_is_the_last_rate_before_the_first_that_is_too_slow() -> None:
    climb = [(100.0, _at(5)), (200.0, _at(9)), (300.0, _at(11)), (400.0, _at(8))]
    assert knee(climb, 10.0) == 200.0
    assert knee(climb, 11.5) == 400.0
    assert knee(climb, 4.0) is None


def test_requests_that_fail_count_against_the_knee() -> None:
    assert knee([(100.0, _at(5)), (200.0, _at(5, failed=10))], 10.0) == 200.0
    assert knee([(100.0, _at(5)), (200.0, _at(5, failed=11))], 10.0) == 100.0


def test_a_run_that_is_not_valid_ends_the_climb() -> None:
    climb = [(100.0, _at(50)), (200.0, _at(50, late_s=0.02)), (300.0, _at(50))]
    assert knee(climb, 60.0) == 100.0


def test_without_an_slo_the_limit_comes_from_low_load() -> None:
    assert low_load_limit_ms([_at(2), _at(9), _at(4)]) == pytest.approx(KNEE_FACTOR * 4)
    assert low_load_limit_ms([measure(_open(), LABELS)]) is None


def test_a_sweep_measures_shares_of_each_policys_own_saturation() -> None:
    points = plan_points({"default": 1000.0, "never": 500.0})
    own = [(p.policy, p.rate) for p in points if p.of == p.policy]
    assert own == [
        (policy, share * rate)
        for share in SHARES
        for policy, rate in (("default", 1000.0), ("never", 500.0))
    ]
    assert [(p.policy, p.rate) for p in points if p.is_common] == [
        ("default", 350.0),
        ("never", 350.0),
    ]
    assert len(plan_points({"never": 500.0})) == len(SHARES)


def test_full_depth_is_measured_at_the_common_rate_even_where_no_share_names_it() -> None:
    points = plan_points({"default": 1000.0, "never": 500.0}, (0.5, 0.9))
    assert [(p.policy, p.rate) for p in points] == [
        ("default", 500.0),
        ("never", 250.0),
        ("default", 350.0),
        ("never", 350.0),
        ("default", 900.0),
        ("never", 450.0),
    ]
    assert {p.policy for p in points if p.is_common} == {"default", "never"}
