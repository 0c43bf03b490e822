"""Exactness: the engine's answers under random schedules against one sample at a time."""

from exeunt.bench.exactness.bench import bench_exactness
from exeunt.bench.exactness.report import Exactness
from exeunt.bench.exactness.settings import ExactnessSettings, exactness_settings

__all__ = ["Exactness", "ExactnessSettings", "bench_exactness", "exactness_settings"]
