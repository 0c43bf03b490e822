"""The process-wide thread pool and allocator, created once and before any session.

With a pool for each session the segments of a model fight for the cores, and with an arena for each
session a model of twelve segments takes three times its memory.
"""

from threading import Lock
from types import ModuleType

from exeunt.engine.errors import ConfigError

_lock = Lock()
_threads: int | None = None


def share_environment(onnxruntime: ModuleType, threads: int) -> None:
    """Create the thread pool of `threads` threads and the CPU arena, or reuse them.

    Raises:
        ConfigError: the process has a pool of another size.
    """
    global _threads
    with _lock:
        if _threads is None:
            onnxruntime.set_global_thread_pool_sizes(threads, 1)
            memory = onnxruntime.OrtMemoryInfo(
                "Cpu",
                onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
                0,
                onnxruntime.OrtMemType.DEFAULT,
            )
            onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({}))
            _threads = threads
        elif _threads != threads:
            raise ConfigError(
                f"this process already has an ONNX Runtime thread pool of {_threads} threads, and"
                f" {threads} were asked for: open every engine with the same `threads`"
                " and `streams`"
            )
