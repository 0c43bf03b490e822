"""Schedules: their means, their burstiness, and what a trace may say."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exeunt.bench.load import Schedule, constant, gamma, poisson, trace
from exeunt.engine.errors import ConfigError


def _variation(schedule: Schedule) -> float:
    gaps = np.diff(schedule.times_s, prepend=0.0)
    return float(gaps.std() / gaps.mean())


def test_constant_arrivals_keep_their_distance() -> None:
    assert constant(4.0, 1.0).times_s.tolist() == [0.0, 0.25, 0.5, 0.75]
    assert len(constant(1000.0, 10.0)) == 10_000


# 100,000 gaps of the coefficient of variation c: the standard error of the rate is c / 316.
@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_arrivals_have_the_rate_and_the_burstiness_asked_for(burstiness: float) -> None:
    schedule = gamma(1000.0, 100.0, 7, burstiness)
    variation = 1 / math.sqrt(burstiness)
    assert len(schedule) == pytest.approx(100_000, rel=5 * variation / 316)
    assert _variation(schedule) == pytest.approx(variation, rel=0.03)


def test_poisson_is_gamma_of_burstiness_one() -> None:
    schedule = poisson(500.0, 100.0, 3)
    assert schedule.times_s.tolist() == gamma(500.0, 100.0, 3, 1.0).times_s.tolist()
    # Counts of a Poisson process: the variance over windows is the mean.
    counts = np.histogram(schedule.times_s, bins=1000, range=(0, 100))[0]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.15)


def test_the_seed_decides() -> None:
    first, again, other = (poisson(100.0, 10.0, seed).times_s for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist()[:5] != other.tolist()[:5]
    doubled = poisson(200.0, 5.0, 1).times_s
    assert doubled == pytest.approx(first / 2)


@given(
    rate=st.floats(0.1, 1000),
    duration_s=st.floats(0.01, 10),
    burstiness=st.floats(0.01, 100),
    seed=st.integers(0, 2**32),
)
def test_times_ascend_and_end_in_time(
    rate: float, duration_s: float, burstiness: float, seed: int
) -> None:
    for schedule in (gamma(rate, duration_s, seed, burstiness), constant(rate, duration_s)):
        assert (np.diff(schedule.times_s) >= 0).all()
        assert ((schedule.times_s >= 0) & (schedule.times_s < duration_s)).all()


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_values_out_of_range_are_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match="the rate is"):
        poisson(wrong, 1.0, 0)
    with pytest.raises(ConfigError, match="the duration is"):
        constant(1.0, wrong)
    with pytest.raises(ConfigError, match="the burstiness is"):
        gamma(1.0, 1.0, 0, wrong)
    with pytest.raises(ConfigError, match="--speed is"):
        trace(Path("none.csv"), wrong)


def test_too_many_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="lower the rate or the duration"):
        constant(1e9, 1e9)


def _trace(tmp_path: Path, name: str, text: str, speed: float = 1.0) -> Schedule:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return trace(tmp_path / name, speed)


def test_a_trace_starts_at_zero_and_is_scaled(tmp_path: Path) -> None:
    found = _trace(tmp_path, "a.csv", "timestamp_s\n100\n101.5\n101.5\n104\n", speed=2.0)
    assert found.times_s.tolist() == [0.0, 0.75, 0.75, 2.0]
    assert found.samples is None
    assert found.duration_s == 2.0
    assert found.until(0.75).times_s.tolist() == [0.0]


def test_a_trace_may_name_samples(tmp_path: Path) -> None:
    rows = '{"timestamp_s": 5, "sample": 3}\n\n{"sample": 0, "timestamp_s": 6.5}\n'
    for found in (
        _trace(tmp_path, "a.jsonl", rows),
        _trace(tmp_path, "a.csv", "\ufeffsample, timestamp_s\n3, 5\n\n0, 6.5\n"),
    ):
        assert found.times_s.tolist() == [0.0, 1.5]
        assert found.samples is not None
        assert found.samples.tolist() == [3, 0]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.csv", "", "no column timestamp_s"),
        ("a.csv", "time\n1\n", "no column timestamp_s"),
        ("a.csv", "timestamp_s\n", "holds no requests"),
        ("a.csv", "timestamp_s\n1\nx\n", "line 3: expected a number"),
        ("a.csv", "timestamp_s\n1\nnan\n", "line 3: timestamp_s is nan"),
        ("a.csv", "timestamp_s\n2\n1\n", r"line 3: 1.0 comes after 2.0: sort the trace"),
        ("a.csv", "timestamp_s,sample\n1,2\n2,\n", "line 3: name a sample in every line"),
        ("a.csv", "timestamp_s,sample\n1,-1\n", "line 2: sample is -1"),
        ("a.csv", "timestamp_s,sample\n1,1.5\n", "line 2: expected a number"),
        ("a.csv", "timestamp_s,size\n1,2\n", "line 2: unknown 'size'"),
        ("a.jsonl", "", "holds no requests"),
        ("a.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("a.jsonl", '{"timestamp_s": 1}\n{"timestamp_s"', "line 2 is not a JSON object"),
        ("a.jsonl", '{"timestamp_s": true}\n', "line 1: expected a number"),
        ("a.jsonl", '{"timestamp_s": 1, "sample": 0.5}\n', "line 1: expected a number"),
        ("a.jsonl", '{"sample": 1}\n', "line 1: expected a number"),
    ],
)
def test_a_bad_trace_is_named(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=complaint):
        _trace(tmp_path, name, text)


def test_a_trace_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the trace .*none\.csv"):
        trace(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"timestamp_s\n\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        trace(tmp_path / "a.csv")
