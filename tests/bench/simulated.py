"""Costs and settings for simulations in tests."""

from collections.abc import Mapping, Sequence

from exeunt.bench.load import Outcome
from exeunt.bench.simulate import (
    CostFile,
    LaneCosts,
    OwnTime,
    SimulationSettings,
    StageCosts,
    Workload,
    simulate,
    simulation_settings,
)
from exeunt.bench.simulate.arrivals import OpenSource
from exeunt.bench.simulate.batches import BatchLog
from exeunt.bench.simulate.simulate import Simulated
from exeunt.bench.simulate.simulator import Simulator
from exeunt.engine import EngineConfig
from exeunt.engine.trace import Trace

NO_OWN_TIME = OwnTime(step_s=0.0, row_s=0.0, request_s=0.0)


def lane(
    name: str = "joint",
    layers: int = 6,
    *,
    alpha_s: float = 0.001,
    beta_s: float = 0.002,
    join: Sequence[str] = (),
    unit_rows: int = 1,
    units: int = 1,
    exits: bool = True,
) -> LaneCosts:
    """Return a lane with an entry and `layers` layers, all of equal costs."""
    return LaneCosts(
        name=name,
        join=tuple(join),
        unit_rows=unit_rows,
        units=units,
        exits=exits,
        stages=tuple(
            StageCosts(segment=f"{name}.{layer}", layer=layer, alpha_s=alpha_s, beta_s=beta_s)
            for layer in range(layers + 1)
        ),
    )


def costs(*lanes: LaneCosts, own: OwnTime = NO_OWN_TIME) -> CostFile:
    """Return the costs of lanes, by default of one of six layers."""
    return CostFile(name="test", lanes=lanes or (lane(),), own=own)


def settings(
    load: Mapping[str, object], engine: Mapping[str, object] | None = None, exits: str = "uniform"
) -> SimulationSettings:
    """Return settings of one repeat without a warm-up, where nothing else is said."""
    return simulation_settings({"warm_up": 0.0, "repeats": 1, **load}, engine or {}, exits)


def run(given: CostFile, wanted: SimulationSettings, trace: Trace | None = None) -> Simulated:
    """Simulate one repeat."""
    return simulate(given, Workload(wanted, given), 0, trace)


def serve(
    given: CostFile,
    times_s: Sequence[float],
    exits: Sequence[tuple[int, ...]],
    engine: Mapping[str, object],
) -> tuple[list[Outcome], Trace]:
    """Serve one request at each time, the k-th with the k-th exits; return what became of them."""
    trace, log = Trace(), BatchLog(0.0, 1e9)
    source = OpenSource(list(times_s), range(len(times_s)))
    simulator = Simulator(
        given, EngineConfig.model_validate(engine), source, exits.__getitem__, log, trace=trace
    )
    return simulator.run(), trace
