"""The simulator: the engine's scheduling in virtual time, with measured costs."""

from exeunt.bench.simulate.costs import (
    CostFile,
    LaneCosts,
    Line,
    OwnTime,
    StageCosts,
    read_costs,
    write_costs,
)
from exeunt.bench.simulate.settings import Measurable, SimulationSettings, simulation_settings
from exeunt.bench.simulate.simulate import Simulated, Workload, simulate

__all__ = [
    "CostFile",
    "LaneCosts",
    "Line",
    "Measurable",
    "OwnTime",
    "Simulated",
    "SimulationSettings",
    "StageCosts",
    "Workload",
    "read_costs",
    "simulate",
    "simulation_settings",
    "write_costs",
]
