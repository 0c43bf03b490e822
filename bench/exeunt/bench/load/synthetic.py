"""The synthetic model under load: its requests leave where they were drawn to."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from pydantic import JsonValue

from exeunt.bench.load.drawn_target import DrawnTarget
from exeunt.bench.load.engine_target import EngineTarget
from exeunt.bench.load.outcome import Target
from exeunt.bench.load.settings import LoadSettings, Policy
from exeunt.bench.workloads import draw_exits, draw_samples, uniter_base_bundle, uniter_config
from exeunt.engine import Engine
from exeunt.engine.backends import open_backend
from exeunt.engine.config import EngineConfig
from exeunt.engine.exit_policy import never

INPUTS = 64  # different samples; how many there are of each exit is another matter


@contextmanager
def open_synthetic(
    settings: LoadSettings, config: EngineConfig
) -> Iterator[tuple[Engine, dict[Policy, Target], dict[str, JsonValue]]]:
    """Open an engine on `uniter-base`, its targets by policy, and what a report says of it.

    Args:
        settings: with `exits`. Under `default` the requests leave where they were drawn to, and
            under `never` at full depth; they are the same samples.
        config: the engine's.

    Raises:
        ConfigError: there is no such distribution, or a setting does not fit.
    """
    assert settings.exits is not None, "only then is the model synthetic"
    model = uniter_config(hidden=settings.hidden)
    exits = draw_exits(settings.exits, model.layers, settings.samples, settings.seed).tolist()
    samples = draw_samples(model, min(INPUTS, settings.samples), seed=settings.seed)
    with closing(open_backend("onnxruntime", config.compute_threads, "fp32", config.streams)) as w:
        bundle = uniter_base_bundle(model, backend=w)
    sizes = {"S": (model.words,), "R": (model.regions,)}
    with Engine.open(bundle, config.model_copy(update={"sizes": sizes})) as engine:
        # The k-th request's sample, in turns: the load generator counts them by number.
        every = [samples[place % len(samples)] for place in range(settings.samples)]
        targets: dict[Policy, Callable[[], Target]] = {
            "default": lambda: DrawnTarget(engine, every, exits),
            "never": lambda: EngineTarget(engine, every, engine.compile(never())),
        }
        said: dict[str, JsonValue] = {"exits": settings.exits, "hidden": settings.hidden}
        yield engine, {name: targets[name]() for name in settings.policies}, said
