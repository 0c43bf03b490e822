"""The demo bench: the embedded bundle with its own criterion and without any."""

from exeunt.bench.demo.bench import DemoBench, bench_demo

__all__ = ["DemoBench", "bench_demo"]
