"""Oscar, and those who share its format: VinVL, and DistillVLM at MiniVLM's size."""
