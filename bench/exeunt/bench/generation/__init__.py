"""Generation at saturation: exits against full depth, and against a plain loop."""

from exeunt.bench.generation.bench import bench_generation
from exeunt.bench.generation.settings import GenerationBench

__all__ = ["GenerationBench", "bench_generation"]
