"""ONNX Runtime on the CPU: one thread pool and one allocator for every session."""

from exeunt.engine.backends.onnxruntime.backend import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeBackend"]
