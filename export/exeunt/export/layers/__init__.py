"""Layers that several model families share, with the parameter names of their checkpoints."""
