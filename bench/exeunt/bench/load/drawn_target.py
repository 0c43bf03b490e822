"""The real engine as a target whose requests leave where they were drawn to."""

from collections.abc import Sequence

from exeunt.bench.load.engine_target import EngineTarget, Tensors
from exeunt.bench.load.outcome import Done, Reading
from exeunt.bench.workloads import drawn_policies
from exeunt.engine import Engine


class DrawnTarget:
    """Sends prepared samples in turns; the k-th request leaves at the k-th drawn layer, in turns.

    Args:
        engine: opened on a bundle of one lane whose exits offer entropy.
        inputs: raw tensors of samples; all of one shape share batches, as in a simulation.
        exits: drawn exit layers.

    Raises:
        ConfigError: the bundle has several lanes, a loop or groups of rows.
        ExitPolicyError: its lane cannot be judged by entropy.
    """

    def __init__(self, engine: Engine, inputs: Sequence[Tensors], exits: Sequence[int]) -> None:
        self._inputs = len(inputs)
        self._exits = exits
        self._targets = {
            layer: EngineTarget(engine, inputs, policy)
            for layer, policy in drawn_policies(engine).items()
        }

    def send(self, sample: int, done: Done) -> None:
        """Submit the request of that number, from 0; see `Target.send`."""
        layer = self._exits[sample % len(self._exits)]
        self._targets[layer].send(sample % self._inputs, done)

    def abandon(self) -> None:
        """Cancel what is under way."""
        for target in self._targets.values():
            target.abandon()

    def read(self, answer: object) -> Reading:
        """Return what an `Answer` says."""
        return next(iter(self._targets.values())).read(answer)

    def generator_cpu_s(self) -> float:
        """Return the CPU seconds of the calling thread."""
        return next(iter(self._targets.values())).generator_cpu_s()
