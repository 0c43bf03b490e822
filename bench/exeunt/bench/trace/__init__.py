"""Traces as files: what an engine or a simulator ran, for a trace viewer."""

from exeunt.bench.trace.perfetto import write_trace

__all__ = ["write_trace"]
