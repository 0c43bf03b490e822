"""OFA for tests: the golden checkpoint with its samples, and the sizes of a tiny model."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exeunt.export.families.ofa.config import OfaConfig

GOLDENS = Path(__file__).parents[1] / "parity" / "goldens" / "ofa_mue"
MAX_LEN = 12  # of the goldens' texts, the end not counted

Arrays = dict[str, NDArray[Any]]

TINY = OfaConfig(
    hidden=16,
    ffn=32,
    encoder_layers=2,
    decoder_layers=2,
    heads=2,
    vocab=20,
    image_size=32,
    image_bucket_size=4,
    token_bucket_size=4,
    max_source_length=8,
    max_source_positions=8,
    max_target_positions=8,
    max_steps=5,
    stem_blocks=(1, 1, 1),
    stem_planes=(4, 4, 8),
    stem_width=64,
)


def golden_expected() -> Arrays:
    """Return what the official code computed."""
    with np.load(GOLDENS / "expected.npz") as arrays:
        return dict(arrays)


def golden_inputs() -> Arrays:
    """Return the six samples as raw tensors, their texts padded to the longest."""
    with np.load(GOLDENS / "inputs.npz") as arrays:
        tokens, lengths = arrays["src_tokens"], arrays["src_lengths"]
        images = arrays["patch_images"].astype(np.float32)
    mask = (np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int64)
    return {"patch_images": images, "src_tokens": tokens, "attention_mask": mask}
