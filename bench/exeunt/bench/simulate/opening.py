"""Opening the engine on which costs are measured."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from exeunt.bench.load import EngineTarget, Target
from exeunt.bench.load.drawn_target import DrawnTarget
from exeunt.bench.load.engine_target import Tensors
from exeunt.bench.simulate.calibrate import Progress, calibrate
from exeunt.bench.simulate.costs import CostFile
from exeunt.bench.simulate.settings import SAMPLES, Measurable
from exeunt.bench.workloads import draw_exits, draw_samples, uniter_base_bundle, uniter_config
from exeunt.bench.workloads.lane import single_lane
from exeunt.engine import Engine
from exeunt.engine.backends import Backend, open_backend
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.config import EngineConfig
from exeunt.engine.errors import ConfigError
from exeunt.engine.exit_policy import never
from exeunt.engine.warm_up import warm_up_samples

INPUTS = 16  # different samples of the synthetic model


@dataclass(frozen=True)
class Measured:
    """An open engine and samples for it, all of one shape."""

    engine: Engine
    inputs: list[Tensors]
    task: str | None

    def costs(self, seconds: float, progress: Progress | None = None) -> CostFile:
        """Measure the costs; see `calibrate`."""
        return calibrate(
            self.engine, self._all_depths(), task=self.task, seconds=seconds, progress=progress
        )

    def drawn(self, exits: list[int]) -> DrawnTarget:
        """Return the engine as a target whose requests leave where they were drawn to."""
        return DrawnTarget(self.engine, self.inputs, exits)

    def _all_depths(self) -> Target:
        """Return a target whose requests leave at every depth, or at the end where lanes are many.

        Full batches at every layer, and single rows too, so that costs are known for both.
        """
        if _exits_can_be_drawn(self.engine.manifest):
            depth = self.engine.manifest.lanes[0].depth
            return self.drawn(draw_exits("uniform", depth, SAMPLES).tolist())
        policy = self.engine.compile(never())
        samples = [self.inputs[place % len(self.inputs)] for place in range(SAMPLES)]
        return EngineTarget(self.engine, samples, policy, self.task)


def _exits_can_be_drawn(manifest: Manifest) -> bool:
    try:
        return "entropy" in single_lane(manifest).scores
    except ConfigError:
        return False


def _writer(config: EngineConfig) -> Backend:
    # One thread pool a process: where the engine computes under ONNX Runtime, it is the engine's.
    streams = config.streams if config.backend == "onnxruntime" else 1
    return open_backend("onnxruntime", config.compute_threads, streams=streams)


@contextmanager
def open_measured(
    what: Measurable, config: EngineConfig, progress: Progress | None = None
) -> Iterator[Measured]:
    """Open an engine on a bundle or on the synthetic model.

    Args:
        what: the bundle.
        config: the engine's.
        progress: called with what comes next.

    Raises:
        BundleError: the bundle is damaged.
        ConfigError: a setting does not fit, or the sizes of the bundle's tensors are not known.
    """
    tell = progress or (lambda _: None)
    if what.hidden is not None:
        tell("preparing the synthetic model")
        model = uniter_config(hidden=what.hidden)
        config = config.model_copy(update={"sizes": {"S": (model.words,), "R": (model.regions,)}})
        inputs: list[Tensors] = list(draw_samples(model, INPUTS))
        with closing(_writer(config)) as writer:
            bundle = uniter_base_bundle(model, backend=writer)
        with Engine.open(bundle, config) as engine:
            yield Measured(engine, inputs, what.task)
        return
    tell("opening the bundle")
    with Engine.open(what.bundle, config) as engine:
        blank = warm_up_samples(engine.manifest, engine.config.sizes)
        if not blank:
            raise ConfigError(
                "the bundle takes raw tensors of free sizes: name those to measure with, as"
                " EXEUNT__ENGINE__SIZES='{\"S\": [28]}'"
            )
        yield Measured(engine, [blank[-1]], what.task)
