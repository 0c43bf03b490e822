"""OpenVINO on the CPU, in float32 or bfloat16: one Core for every segment."""

from exeunt.engine.backends.openvino.backend import OpenVinoBackend

__all__ = ["OpenVinoBackend"]
