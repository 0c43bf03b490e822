"""Before the engine is ready: every segment is warmed, and what a step costs is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exeunt.engine.backends.base import Array, Backend
from exeunt.engine.calibration import Calibration
from exeunt.engine.config import EngineConfig
from exeunt.engine.exit_policy.compiled import CompiledPolicy
from exeunt.engine.lanes.plan import Plan
from exeunt.engine.lanes.slabs import Slabs
from exeunt.engine.own_time import own_step_s
from exeunt.engine.scheduling import Costs
from exeunt.engine.step.runner import Runners


@dataclass(frozen=True)
class StartUp:
    """What an engine runs its first batches with. streams: of every stream, none of which runs.

    policy: that rows are judged by.
    """

    plan: Plan
    slabs: Slabs
    streams: Sequence[Runners]
    policy: CompiledPolicy

    def measure(
        self, blank: Sequence[Mapping[str, Array]], config: EngineConfig, backend: Backend
    ) -> Costs:
        """Run every stage on blank samples and return what the largest ones cost.

        Args:
            blank: raw tensors of one sample of each size, ascending; at least one.
            config: the engine's.
            backend: what runs the segments.

        Raises:
            SegmentError: a segment failed.
        """
        first, rows = self.streams[0], config.max_batch_rows
        calibration = Calibration(self.plan, self.slabs, self.policy, rows)
        if backend.compiles_shapes:
            calibration.warm_sizes(first, blank)
        costs = calibration.measure(self.streams, blank[-1])
        own_s = own_step_s(self.plan, self.slabs, first, self.policy, blank[-1], rows)
        return costs.beside(own_s)
