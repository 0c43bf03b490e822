"""The models of torch layers, their parameters named as in the official checkpoints."""
