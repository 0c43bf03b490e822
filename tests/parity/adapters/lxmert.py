"""Hugging Face's LXMERT: its tuples hold the layers of the encoders, then the cross layers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.parity.adapters.cosine import cosine_exits
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


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    config = json.loads((folder / "config.json").read_text())
    states = [
        *_states("text", "language", expected, config["l_layers"], inputs["text_lens"]),
        *_states("image", "vision", expected, config["r_layers"], inputs["num_regions"]),
    ]
    golden = Golden(
        folder,
        tensors=lambda samples: tensors(inputs, samples),
        samples=len(expected["logits"]),
        states=states,
        logits=[Logits("fusion", final=expected["logits"])],
        checks={"cosine": cosine_exits(tensors(inputs, range(len(expected["logits"]))))},
    )
    return {"": golden}


def _states(
    lane: str, state: str, expected: Arrays, layers: int, lengths: Array
) -> tuple[States, States]:
    """Return the states of an encoder's lane, and those that go on in the fusion lane."""
    outputs = expected[f"{state}_hidden"]
    valid = first_valid(lengths, outputs.shape[2])
    own = {0: expected[f"{state}_embedding"], **by_layer(outputs[:, :layers], 1)}
    return States(lane, own, valid), States(
        "fusion", by_layer(outputs[:, layers - 1 :]), valid, state=state
    )


def tensors(inputs: Arrays, samples: Sequence[int]) -> dict[str, Array]:
    """Return the raw tensors of some samples."""
    chosen = list(samples)
    words, regions = inputs["text_lens"][chosen], inputs["num_regions"][chosen]
    return {
        "input_ids": cut(inputs["input_ids"][chosen], 1, words),
        "attention_mask": cut(inputs["attention_mask"][chosen], 1, words),
        "region_features": cut(inputs["visual_feats"][chosen].astype(np.float32), 1, regions),
        "region_boxes": cut(inputs["visual_pos"][chosen], 1, regions),
        "region_mask": cut(inputs["visual_attention_mask"][chosen], 1, regions),
    }
