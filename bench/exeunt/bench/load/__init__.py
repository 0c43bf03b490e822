"""Load: arrivals, closed and open loops, targets, and the figures of what they saw."""

from exeunt.bench.load.arrivals import Schedule, constant, gamma, poisson, trace
from exeunt.bench.load.closed_loop import closed_loop
from exeunt.bench.load.engine_target import EngineTarget
from exeunt.bench.load.measure import Measurement, agreement, measure
from exeunt.bench.load.open_loop import open_loop
from exeunt.bench.load.outcome import Outcome, Reading, Reply, Run, Target

__all__ = [
    "EngineTarget",
    "Measurement",
    "Outcome",
    "Reading",
    "Reply",
    "Run",
    "Schedule",
    "Target",
    "agreement",
    "closed_loop",
    "constant",
    "gamma",
    "measure",
    "open_loop",
    "poisson",
    "trace",
]
