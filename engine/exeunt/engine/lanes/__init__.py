"""Lanes: the plan that a manifest becomes, and the requests and units that walk it."""

from exeunt.engine.lanes.plan import LanePlan, Plan, Stage, TaskPlan, build_plan
from exeunt.engine.lanes.request import LaneExit, Request
from exeunt.engine.lanes.unit import Unit

__all__ = ["LaneExit", "LanePlan", "Plan", "Request", "Stage", "TaskPlan", "Unit", "build_plan"]
