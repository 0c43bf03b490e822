"""VL-BERT on a detector's regions."""
