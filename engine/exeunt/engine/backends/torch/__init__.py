"""The reference backend: a segment's ONNX graph run by torch operators on the CPU.

A bundle carries no code and no pickles, so this backend reads the same files as the fast ones.
"""

from exeunt.engine.backends.torch.backend import TorchBackend

__all__ = ["TorchBackend"]
