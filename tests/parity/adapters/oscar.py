"""Oscar's goldens: texts padded to a fixed length, with regions behind the padding."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.parity.adapters.cosine import cosine_exits
from tests.parity.adapters.sequences import padded_words
from tests.support.goldens import (
    EXPECTED,
    INPUTS,
    Array,
    Arrays,
    Golden,
    Logits,
    States,
    by_layer,
    cut,
    first_valid,
    read_arrays,
)

LANE = "joint"
BOX_COLUMNS = 6


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    config = json.loads((folder / "config.json").read_text())
    return {"": classification(folder, inputs, expected, config["max_position_embeddings"])}


def classification(folder: Path, inputs: Arrays, expected: Arrays, positions: int) -> Golden:
    hidden, logits = expected["hidden"], expected["logits"]  # [N, L + 1, S + R, D]
    words = inputs["input_ids"].shape[1]
    valid = np.concatenate(
        [
            first_valid(inputs["text_lens"], words),
            first_valid(inputs["num_regions"], hidden.shape[2] - words),
        ],
        axis=1,
    )
    place = np.arange(hidden.shape[2])
    place[words:] += padded_words(words, positions) - words

    def of(rows: Sequence[int]) -> dict[str, Array]:
        return tensors(inputs, rows)

    return Golden(
        folder,
        tensors=of,
        samples=len(logits),
        states=[States(LANE, by_layer(hidden), valid, np.tile(place, (len(logits), 1)))],
        logits=[Logits(LANE, final=logits)],
        checks={"cosine": cosine_exits(of(range(len(logits))))},
    )


def tensors(inputs: Arrays, samples: Sequence[int]) -> dict[str, Array]:
    """Return the raw tensors of some samples, texts as long as the goldens have them."""
    rows = list(samples)
    ids = inputs["input_ids"][rows]
    mask = first_valid(inputs["text_lens"][rows], ids.shape[1]).astype(np.int64)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": inputs["token_type_ids"][rows],
        **regions(inputs, rows),
    }


def regions(inputs: Arrays, rows: Sequence[int]) -> dict[str, Array]:
    """Return the regions of some samples; the boxes are the last columns of the features."""
    seen = inputs["num_regions"][list(rows)]
    features = cut(inputs["img_feats"][list(rows)], 1, seen).astype(np.float32)
    return {
        "region_features": np.ascontiguousarray(features[..., :-BOX_COLUMNS]),
        "region_boxes": np.ascontiguousarray(features[..., -BOX_COLUMNS:]),
        "region_mask": first_valid(seen, int(seen.max())).astype(np.int64),
    }
