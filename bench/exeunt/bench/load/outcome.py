"""What became of each request of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """How a request ended, as a target tells it.

    sent_s, done_s: of `time.perf_counter`. error: a type of `docs/errors.md`, `timeout`,
    `connection` or `http_STATUS`; None where there is an answer. answer: the target's own form of
    it, read after the run, so that reading costs the run nothing.
    """

    sent_s: float
    done_s: float
    error: str | None = None
    answer: object = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says. layers_run, layers_possible: over all lanes."""

    label: str | None
    index: int
    exit_layer: int
    depth: int
    layers_run: int
    layers_possible: int


Done = Callable[[Reply], None]


class Target(Protocol):
    """What is put under load."""

    def send(self, sample: int, done: Done) -> None:
        """Send the sample of that place and return at once.

        Args:
            sample: a place among the prepared samples.
            done: is called exactly once, from any thread, also when sending fails.
        """
        ...

    def abandon(self) -> None:
        """Give up what is under way; each request ends with the error `timeout`."""
        ...

    def read(self, answer: object) -> Reading:
        """Return what a reply's answer says; ValueError when it is no answer."""
        ...

    def generator_cpu_s(self) -> float:
        """Return the CPU seconds that generating load has cost so far; asked by its thread."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. Times in seconds from the run's start.

    scheduled_s: when it was to be sent; in a closed loop, when it was. done_s: when it ended.
    """

    sample: int
    scheduled_s: float
    sent_s: float
    done_s: float
    error: str | None
    reading: Reading | None

    @property
    def latency_s(self) -> float:
        """Seconds from the scheduled time to the end."""
        return self.done_s - self.scheduled_s


@dataclass(frozen=True)
class Run:
    """Everything that one run of a loop saw.

    outcomes: every request that was sent. warm_up_s, seconds: the measured window starts at the
    one and lasts the other. open_loop: whether requests had scheduled times. generator_share: CPU
    seconds of the load generator for each second of the run. gave_up: why the run was cut short.
    """

    outcomes: tuple[Outcome, ...]
    warm_up_s: float
    seconds: float
    open_loop: bool
    generator_share: float
    gave_up: str | None = None
