"""OFA and MuE: image and text lanes with tied layers, and a decoder; the official checkpoints."""
