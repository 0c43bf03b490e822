"""Hugging Face's ViLT: images of several sizes, one or several a sample."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from exeunt.engine import Engine
from tests.parity.adapters.cosine import cosine_exits
from tests.parity.adapters.sequences import padded_words, text_then_patches
from tests.support.goldens import (
    EXPECTED,
    INPUTS,
    TOLERANCE,
    Array,
    Arrays,
    Golden,
    Logits,
    States,
    by_layer,
    read_arrays,
)

LANE = "joint"


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    config = json.loads((folder / "config.json").read_text())
    hidden, logits = expected["hidden"], expected["logits"]  # [N, L + 1, (rows,) S, D]
    valid, places = _sequence(inputs, config, hidden.shape[-2])
    rows = hidden.shape[2:-2]

    def alone(engine: Engine) -> None:
        """Each sample without padding: its own text's length, and its own image's size."""
        for row in range(len(hidden)):
            found = engine.probe(_cropped(tensors(inputs, [row])))[LANE]
            last = found.logits[max(found.logits)]
            np.testing.assert_allclose(last[0], logits[row], atol=TOLERANCE, rtol=0)

    golden = Golden(
        folder,
        tensors=lambda samples: tensors(inputs, samples),
        samples=len(hidden),
        states=[
            States(
                LANE,
                by_layer(hidden),
                valid.reshape(-1, *rows, hidden.shape[-2]),
                places.reshape(-1, *rows, hidden.shape[-2]),
            )
        ],
        logits=[Logits(LANE, final=logits), Logits(LANE, final=expected["logits_unpatched"])],
        checks={"cropped": alone, "cosine": cosine_exits(tensors(inputs, range(len(hidden))))},
    )
    return {"": golden}


def _sequence(inputs: Arrays, config: Mapping[str, int], size: int) -> tuple[Array, Array]:
    patch, images = (
        config["patch_size"],
        inputs["pixel_mask"].reshape(-1, *inputs["pixel_mask"].shape[-2:]),
    )
    grids = np.stack([images[:, ::patch, 0].sum(1), images[:, 0, ::patch].sum(1)], axis=1)
    words = inputs["text_lens"].repeat(len(grids) // len(inputs["text_lens"]))
    block = padded_words(inputs["input_ids"].shape[1], config["max_position_embeddings"])
    return text_then_patches(words, grids.astype(int), block, images.shape[2] // patch, size)


def tensors(inputs: Arrays, samples: Sequence[int]) -> dict[str, Array]:
    """Return the raw tensors of some samples, padded to the longest of all."""
    chosen = list(samples)
    return {
        "input_ids": inputs["input_ids"][chosen],
        "attention_mask": inputs["attention_mask"][chosen],
        "pixel_values": inputs["pixel_values"][chosen].astype(np.float32),
        "pixel_mask": inputs["pixel_mask"][chosen].astype(np.int64),
    }


def _cropped(sample: Mapping[str, Array]) -> dict[str, Array]:
    """Return one sample without the padding that all of its rows have."""
    words = int(sample["attention_mask"].sum())
    seen = sample["pixel_mask"].reshape(-1, *sample["pixel_mask"].shape[-2:])
    height, width = int(seen[:, :, 0].sum(1).max()), int(seen[:, 0].sum(1).max())
    cropped = {
        "input_ids": sample["input_ids"][:, :words],
        "attention_mask": sample["attention_mask"][:, :words],
        "pixel_values": sample["pixel_values"][..., :height, :width],
        "pixel_mask": sample["pixel_mask"][..., :height, :width],
    }
    return {name: np.ascontiguousarray(array) for name, array in cropped.items()}
