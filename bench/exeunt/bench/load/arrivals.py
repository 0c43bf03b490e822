"""When requests are sent: schedules in seconds from a run's start, drawn from a seed."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.errors import ConfigError

Times = NDArray[np.float64]
MAX_REQUESTS = 50_000_000  # 400 MB of times: beyond it a rate or a duration is a slip of the pen
BURSTINESS = (0.01, 10_000.0)
COLUMNS = ("timestamp_s", "sample")


@dataclass(frozen=True)
class Schedule:
    """Requests to come.

    times_s: float64 [N], ascending, from the run's start. samples: int64 [N], the place of each
    request's sample, where a trace names it; None where the run chooses.
    """

    times_s: Times
    samples: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def duration_s(self) -> float:
        """Seconds up to the last request."""
        return float(self.times_s[-1]) if len(self.times_s) else 0.0

    def until(self, end_s: float) -> "Schedule":
        """Return the requests before `end_s`."""
        kept = int(np.searchsorted(self.times_s, end_s, side="left"))
        samples = None if self.samples is None else self.samples[:kept]
        return Schedule(self.times_s[:kept], samples)


def constant(rate: float, duration_s: float) -> Schedule:
    """Return requests every 1 / rate seconds, the first at 0.

    Args:
        rate: requests/s, over 0.
        duration_s: requests come before it.

    Raises:
        ConfigError: a value is out of range.
    """
    count = expected_requests(rate, duration_s)
    return Schedule(np.arange(math.ceil(count)) / rate).until(duration_s)


def poisson(rate: float, duration_s: float, seed: int | list[int]) -> Schedule:
    """Return independent arrivals: gaps are exponential with mean 1 / rate; see `gamma`."""
    return gamma(rate, duration_s, seed, burstiness=1.0)


def gamma(rate: float, duration_s: float, seed: int | list[int], burstiness: float) -> Schedule:
    """Return arrivals whose gaps are gamma-distributed.

    gap ~ Gamma(shape = burstiness, scale = 1 / (rate * burstiness)): its mean is 1 / rate and its
    coefficient of variation 1 / sqrt(burstiness), as in `vllm bench serve --burstiness`.

    Args:
        rate: mean requests/s, over 0.
        duration_s: requests come before it.
        seed: equal seeds give equal schedules; those of two rates are scaled copies.
        burstiness: from .01 to 10,000; 1 is Poisson, below 1 comes in bursts, above 1 is more even.

    Raises:
        ConfigError: a value is out of range.
    """
    least, most = BURSTINESS
    if not least <= burstiness <= most:
        raise ConfigError(
            f"the burstiness is {burstiness:g}: expected one from {least:g} to {most:g}; 1 is"
            " Poisson"
        )
    count = expected_requests(rate, duration_s)
    generator = np.random.default_rng(seed)
    draw = int(count + 10 * math.sqrt(count) + 10)
    times = np.empty(0)
    while not len(times) or times[-1] < duration_s:  # nearly always once
        gaps = generator.gamma(burstiness, 1.0 / burstiness, draw) / rate
        times = np.concatenate([times, (times[-1] if len(times) else 0.0) + np.cumsum(gaps)])
    return Schedule(times).until(duration_s)


def trace(file: Path, speed: float = 1.0) -> Schedule:
    """Return the arrivals that a file lists, the first one at 0.

    Args:
        file: CSV with a header, or JSONL (by the name's ending `.jsonl`), of `timestamp_s`,
            ascending, and optionally `sample`, the place of the sample to send (taken modulo the
            number of samples).
        speed: 2 sends twice as fast.

    Raises:
        ConfigError: the file cannot be read, or a line is wrong: it says which.
    """
    check_positive("--speed", speed)
    times: list[float] = []
    samples: list[int] = []
    for number, time_s, sample in _records(file):
        where = f"the trace {file}, line {number}"
        if not math.isfinite(time_s):
            raise ConfigError(f"{where}: timestamp_s is {time_s}, expected seconds")
        if times and time_s < times[-1]:
            raise ConfigError(
                f"{where}: {time_s} comes after {times[-1]}: sort the trace by timestamp_s"
            )
        if times and (sample is None) != (not samples):
            raise ConfigError(f"{where}: name a sample in every line, or in none")
        if sample is not None:
            if sample < 0:
                raise ConfigError(f"{where}: sample is {sample}, expected a place from 0 on")
            samples.append(sample)
        times.append(time_s)
    if not times:
        raise ConfigError(f"the trace {file} holds no requests: give at least one line")
    scaled = (np.array(times) - times[0]) / speed
    return Schedule(scaled, np.array(samples, dtype=np.int64) if samples else None)


def check_positive(what: str, value: float) -> None:
    """Raise ConfigError unless the value is a finite number over 0."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{what} is {value}: expected a number over 0")


def expected_requests(rate: float, duration_s: float) -> float:
    """Return how many requests come; raises ConfigError when that cannot be."""
    check_positive("the rate", rate)
    check_positive("the duration", duration_s)
    count = rate * duration_s
    if count > MAX_REQUESTS:
        raise ConfigError(
            f"{rate:g} requests/s for {duration_s:g} s are {count:.3g} requests, at most"
            f" {MAX_REQUESTS:,} are taken: lower the rate or the duration"
        )
    return count


def _records(file: Path) -> Iterator[tuple[int, float, int | None]]:
    """Yield line number, timestamp and sample of every line that is not blank."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the trace {file}: {reason}") from None
    rows = _json_rows(file, text) if file.suffix == ".jsonl" else _csv_rows(file, text)
    for number, row in rows:
        if unknown := sorted(set(row) - set(COLUMNS)):
            raise ConfigError(
                f"the trace {file}, line {number}: unknown {unknown[0]!r}: expected"
                f" {' and '.join(COLUMNS)}"
            )
        try:
            sample = row.get("sample")
            yield number, _number(row["timestamp_s"]), None if sample is None else _place(sample)
        except (KeyError, TypeError, ValueError):
            raise ConfigError(
                f"the trace {file}, line {number}: expected a number timestamp_s and, if any, a"
                f" whole number sample, found {str(row)[:120]}"
            ) from None


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ConfigError(f"the trace {file}, line {number} is not a JSON object")
        yield number, row


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    try:
        if "timestamp_s" not in (reader.fieldnames or ()):
            raise ConfigError(
                f"the trace {file} has no column timestamp_s: name the columns in its first line"
                " (a JSONL trace ends in .jsonl)"
            )
        for row in reader:
            named = {str(key): value for key, value in row.items() if value not in (None, "")}
            yield reader.line_num, dict(named)
    except csv.Error as error:
        raise ConfigError(f"the trace {file}, line {reader.line_num}: {error}") from None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(value)
    return float(value)


def _place(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(value)
    return int(value)
