"""Scheduling: which lane, layer and rows run next."""

from exeunt.engine.scheduling.policy import PolicySettings, Queue, choose
from exeunt.engine.scheduling.scheduler import Scheduler

__all__ = ["PolicySettings", "Queue", "Scheduler", "choose"]
