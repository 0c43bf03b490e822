"""X-VLM, and EfficientVLM: the same model with fewer layers, heads and neurons."""
