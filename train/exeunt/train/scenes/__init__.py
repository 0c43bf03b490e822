"""The embedded two-task model: entailment and captions of emoji scenes, as OFA with MuE."""
