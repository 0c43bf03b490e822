"""Decoding: which token a loop lane answers next, and which hypotheses go on from it."""
