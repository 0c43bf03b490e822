"""What the segments' sessions take in memory, against the whole model as one."""

from exeunt.bench.memory.bench import MemoryReport, bench_memory

__all__ = ["MemoryReport", "bench_memory"]
