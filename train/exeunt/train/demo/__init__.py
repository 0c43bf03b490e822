"""The embedded demo model: its data, losses, recipe and trained checkpoint."""
