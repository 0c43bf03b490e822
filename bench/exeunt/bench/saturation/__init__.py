"""The saturation bench: the engine against full depth and other ways to exit, in one run."""

from exeunt.bench.saturation.bench import bench_saturation
from exeunt.bench.saturation.pictures import full_report
from exeunt.bench.saturation.report import SaturationReport
from exeunt.bench.saturation.settings import PEERS, SaturationSettings, saturation_settings

__all__ = [
    "PEERS",
    "SaturationReport",
    "SaturationSettings",
    "bench_saturation",
    "full_report",
    "saturation_settings",
]
