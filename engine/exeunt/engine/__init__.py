"""The engine: reads a bundle and walks rows through its lanes layer by layer."""
