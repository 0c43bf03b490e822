"""The engine under the saturation bench's protocol."""

import time
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from threading import Event

import numpy as np

from exeunt.bench.peers.base import Exits, PeerRun
from exeunt.bench.workloads import Sample, drawn_policies
from exeunt.engine import Engine
from exeunt.engine.errors import SegmentError
from exeunt.engine.pending import Pending
from exeunt.engine.stats import StepTimes

WARM_BATCHES, TAIL_BATCHES = 2, 6  # samples before and behind the counted ones, in batches


@dataclass(frozen=True)
class StepShares:
    """Where the engine's thread spent a pass. own: the share of the steps outside the backend.

    parts: each part's share of the steps. step_us: microseconds of its own in each step.
    """

    own: float
    parts: dict[str, float]
    step_us: float


class EnginePeer:
    """Serves the samples through the engine, which never runs dry while it is measured.

    The counted samples are the answers between the first ones, which warm up, and the last ones,
    which keep the batches full: a steady state, as the static batches of the baseline are. All
    samples wait in the queue beforehand, so that no client takes the interpreter away.

    engine: opened with room for `queue_rows` rows.
    """

    name = "exeunt"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._policies = drawn_policies(engine)
        self._samples: Sequence[Sample] = ()
        self._exits: Exits = np.empty(0, dtype=np.int64)
        self.shares: list[StepShares] = []

    @property
    def settings(self) -> dict[str, str | int]:
        """The engine's backend, precision and sizes."""
        config = self._engine.config
        return {
            "backend": config.backend,
            "precision": config.precision,
            "threads": config.compute_threads,
            "max_batch_rows": config.max_batch_rows,
            "max_resident_rows": config.resident_rows,
        }

    @staticmethod
    def queue_rows(samples: int, batch_rows: int) -> int:
        """Return the rows that must fit into the engine's queue for a pass."""
        return samples + (WARM_BATCHES + TAIL_BATCHES) * batch_rows

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:
        """Take the samples; see `Peer.prepare`."""
        self._samples, self._exits = samples, exits

    def run(self) -> PeerRun:
        """Serve all samples once; see `Peer.run`."""
        count, batch = len(self._samples), self._engine.config.max_batch_rows
        first = WARM_BATCHES * batch
        ended = _Ended(first, count)
        places = np.arange(self.queue_rows(count, batch)) % count
        pending: list[Pending] = []
        with self._engine.reserve(len(places)) as ticket:
            for place in places.tolist():
                policy = self._policies[int(self._exits[place])]
                future = self._engine.submit_tensors(
                    ticket, self._samples[place], exit_policy=policy
                )
                future.add_done_callback(ended)
                pending.append(future)
            before = self._step_times()
            ended.enough.wait()
            self.shares.append(_shares(before, self._step_times()))
            for future in pending:
                future.cancel()
            wait(pending)
        answers = [future.result() for future in ended.futures[first : first + count]]
        drawn = {
            id(future): int(self._exits[place])
            for future, place in zip(pending, places, strict=True)
        }
        for future, answer in zip(ended.futures[first : first + count], answers, strict=True):
            if answer.exit_layer != drawn[id(future)]:
                raise SegmentError(
                    f"a sample drawn to leave at layer {drawn[id(future)]} left at"
                    f" {answer.exit_layer}: the engine is wrong, its speed means nothing"
                )
        seconds = ended.times_s[first + count - 1] - ended.times_s[first - 1]
        layers = np.array([answer.exit_layer for answer in answers], dtype=np.int64)
        return PeerRun(seconds, layers, np.stack([answer.logits for answer in answers]))

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _step_times(self) -> StepTimes:
        return StepTimes(**vars(self._engine.stats.step))


class _Ended:
    """Notes the futures in the order of their ends; runs in the engine's thread."""

    def __init__(self, first: int, count: int) -> None:
        self.futures: list[Pending] = []
        self.times_s: list[float] = []
        self.enough = Event()
        self._wanted = first + count

    def __call__(self, future: object) -> None:
        assert isinstance(future, Pending), "the engine's futures"
        self.times_s.append(time.perf_counter())
        self.futures.append(future)
        # At least: a sample that had ended already is noted by the thread that submits.
        if len(self.futures) >= self._wanted:
            self.enough.set()


def _shares(before: StepTimes, after: StepTimes) -> StepShares:
    spent = {name: value - getattr(before, name) for name, value in vars(after).items()}
    times = StepTimes(**spent)
    total_s = times.total_s or 1.0
    parts = {
        name.removesuffix("_s"): value / total_s for name, value in spent.items() if name != "steps"
    }
    return StepShares(times.own_s / total_s, parts, times.own_s / max(1, times.steps) * 1e6)
