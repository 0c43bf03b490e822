"""One step: gather a batch, run its segment, judge it, route its units."""

from exeunt.engine.step.executor import Executor

__all__ = ["Executor"]
