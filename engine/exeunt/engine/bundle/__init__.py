"""Bundles: what export writes and the engine opens."""

from exeunt.engine.bundle.manifest import FORMAT, Manifest
from exeunt.engine.bundle.reader import Bundle, default_bundle

__all__ = ["FORMAT", "Bundle", "Manifest", "default_bundle"]
