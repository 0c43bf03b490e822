"""The engine under the saturation bench's protocol."""

import time
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from threading import Event

import numpy as np

from exeunt.bench.peers.base import Exits, PeerRun
from exeunt.bench.workloads import Sample, drawn_policies
from exeunt.engine import Engine, EngineConfig
from exeunt.engine.errors import SegmentError
from exeunt.engine.pending import Pending
from exeunt.engine.stats import StepTimes
from exeunt.engine.trace import Trace

SPARE_BATCHES = 2  # that still wait to enter when the last counted sample has left

StageRows = dict[int, tuple[int, int]]  # rows and batches so far, by layer


@dataclass(frozen=True)
class StepShares:
    """Where the engine's streams spent a pass. own: the share of the steps outside the backend.

    parts: each part's share of the steps. step_us: microseconds of its own in each step.
    """

    own: float
    parts: dict[str, float]
    step_us: float


@dataclass(frozen=True)
class LayerFill:
    """The batches of one stage in a pass. layer: 0 before the first. rows: of all batches."""

    layer: int
    rows: int
    batches: int


class EnginePeer:
    """Serves the samples through the engine, which never runs dry while it is measured.

    The counted samples are the answers between the first ones, which warm up, and the last ones,
    which keep the batches full: a steady state, as the static batches of the baseline are. All
    samples wait in the queue beforehand, so that no client takes the interpreter away.

    Args:
        engine: opened with room for `queue_rows` rows.
        traced_run: the run that is recorded in `trace`, counting from 0.
    """

    name = "exeunt"

    def __init__(self, engine: Engine, traced_run: int | None = None) -> None:
        self._engine = engine
        self._traced_run = traced_run
        self._policies = drawn_policies(engine)
        self._samples: Sequence[Sample] = ()
        self._exits: Exits = np.empty(0, dtype=np.int64)
        self.shares: list[StepShares] = []
        self.fills: list[tuple[LayerFill, ...]] = []
        self.trace: Trace | None = None

    @property
    def settings(self) -> dict[str, str | int]:
        """The engine's backend, precision and sizes."""
        config = self._engine.config
        return {
            "backend": config.backend,
            "precision": config.precision,
            "threads": config.compute_threads,
            "streams": config.streams,
            "max_batch_rows": config.max_batch_rows,
            "max_resident_rows": config.resident_rows,
        }

    @staticmethod
    def queue_rows(samples: int, config: EngineConfig) -> int:
        """Return the rows that must fit into the engine's queue for a pass.

        Behind the counted samples come as many as are under way at once, so that none leaves an
        engine that drains; before them half as many.
        """
        spare = SPARE_BATCHES * config.max_batch_rows
        return _warm_up_rows(config) + samples + config.resident_rows + spare

    def prepare(self, samples: Sequence[Sample], exits: Exits) -> None:
        """Take the samples; see `Peer.prepare`."""
        self._samples, self._exits = samples, exits

    def run(self) -> PeerRun:
        """Serve all samples once; see `Peer.run`."""
        if len(self.shares) != self._traced_run:
            return self._run()
        self.trace = self._engine.start_trace()
        try:
            return self._run()
        finally:
            self._engine.stop_trace()

    def _run(self) -> PeerRun:
        count, config = len(self._samples), self._engine.config
        first = _warm_up_rows(config)
        ended = _Ended(first + count)
        places = np.arange(self.queue_rows(count, config)) % count
        pending: dict[Pending, int] = {}
        with self._engine.reserve(len(places)) as ticket:
            for place in places.tolist():
                layer = int(self._exits[place])
                future = self._engine.submit_tensors(
                    ticket, self._samples[place], exit_policy=self._policies[layer]
                )
                pending[future] = layer
                future.add_done_callback(ended)
            steps, rows = self._step_times(), self._stage_rows()
            ended.enough.wait()
            self.shares.append(_shares(steps, self._step_times()))
            self.fills.append(_fills(rows, self._stage_rows()))
            for future in pending:
                future.cancel()
            wait(pending)
        counted = ended.noted[first : first + count]
        answers = [future.result() for _, future in counted]
        for (_, future), answer in zip(counted, answers, strict=True):
            if answer.exit_layer != pending[future]:
                raise SegmentError(
                    f"a sample drawn to leave at layer {pending[future]} left at"
                    f" {answer.exit_layer}: the engine is wrong, its speed means nothing"
                )
        seconds = counted[-1][0] - ended.noted[first - 1][0]
        layers = np.array([answer.exit_layer for answer in answers], dtype=np.int64)
        return PeerRun(seconds, layers, np.stack([answer.logits for answer in answers]))

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _step_times(self) -> StepTimes:
        return StepTimes(**vars(self._engine.stats.step))

    def _stage_rows(self) -> StageRows:
        found = self._engine.stats.stage_rows
        return {layer: (rows, batches) for (_, layer), (rows, batches) in list(found.items())}


class _Ended:
    """Notes the futures in the order of their ends, and when; runs in the engine's threads."""

    def __init__(self, wanted: int) -> None:
        self.noted: list[tuple[float, Pending]] = []
        self.enough = Event()
        self._wanted = wanted

    def __call__(self, future: object) -> None:
        assert isinstance(future, Pending), "the engine's futures"
        self.noted.append((time.perf_counter(), future))
        # At least: a sample that had ended already is noted by the thread that submits.
        if len(self.noted) >= self._wanted:
            self.enough.set()


def _warm_up_rows(config: EngineConfig) -> int:
    return config.resident_rows // 2


def _shares(before: StepTimes, after: StepTimes) -> StepShares:
    spent = {name: value - getattr(before, name) for name, value in vars(after).items()}
    times = StepTimes(**spent)
    total_s = times.total_s or 1.0
    parts = {
        name.removesuffix("_s"): value / total_s for name, value in spent.items() if name != "steps"
    }
    return StepShares(times.own_s / total_s, parts, times.own_s / max(1, times.steps) * 1e6)


def _fills(before: StageRows, after: StageRows) -> tuple[LayerFill, ...]:
    found = []
    for layer, (rows, batches) in sorted(after.items()):
        rows_before, batches_before = before.get(layer, (0, 0))
        found.append(LayerFill(layer, rows - rows_before, batches - batches_before))
    return tuple(found)
