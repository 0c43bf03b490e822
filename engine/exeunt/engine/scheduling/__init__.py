"""Scheduling: which lane, layer and rows run next."""

from exeunt.engine.scheduling.costs import Costs, SegmentCost, fit_cost
from exeunt.engine.scheduling.policy import Choice, PolicySettings, Queue, choose
from exeunt.engine.scheduling.scheduler import Scheduler
from exeunt.engine.scheduling.table import StageTable, stage_table

__all__ = [
    "Choice",
    "Costs",
    "PolicySettings",
    "Queue",
    "Scheduler",
    "SegmentCost",
    "StageTable",
    "choose",
    "fit_cost",
    "stage_table",
]
