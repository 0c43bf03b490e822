"""The engine: reads a bundle and walks rows through its lanes layer by layer."""

from exeunt.engine.admission import Ticket
from exeunt.engine.answer import Answer, LaneReport, Timings
from exeunt.engine.bundle.reader import Bundle, default_bundle
from exeunt.engine.config import EngineConfig
from exeunt.engine.engine import Engine
from exeunt.engine.exit_policy import ExitPolicy, load_exit_policy
from exeunt.engine.inputs.limits import InputLimits

__all__ = [
    "Answer",
    "Bundle",
    "Engine",
    "EngineConfig",
    "ExitPolicy",
    "InputLimits",
    "LaneReport",
    "Ticket",
    "Timings",
    "default_bundle",
    "load_exit_policy",
]
