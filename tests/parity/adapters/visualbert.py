"""Hugging Face's VisualBERT, which reads no boxes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from exeunt.engine import Engine
from tests.parity.adapters.cosine import cosine_exits
from tests.parity.adapters.sequences import padded_words, text_then_regions
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
    cut,
    read_arrays,
)

LANE = "joint"
TYPES = "visual_token_type_ids"
TEXT = ("input_ids", "attention_mask")


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    config = json.loads((folder / "config.json").read_text())
    hidden, logits = expected["hidden"], expected["logits"]  # [N, L + 1, S, D]
    words, regions = inputs["text_lens"], inputs["num_regions"]
    block = padded_words(inputs["input_ids"].shape[1], config["max_position_embeddings"])
    valid, places = text_then_regions(words, regions, block, hidden.shape[2])
    typed = "VisualBertForVisualReasoning" in config["architectures"]
    assert typed or (inputs[TYPES] == 1).all(), "regions of one image are all of one type"

    def alone(engine: Engine) -> None:
        """Each sample without padding."""
        for row in range(len(hidden)):
            sample = tensors(inputs, [row], typed)
            cropped = {
                name: cut(array, 1, (words if name in TEXT else regions)[[row]])
                for name, array in sample.items()
            }
            found = engine.probe(cropped)[LANE]
            last = found.logits[max(found.logits)]
            np.testing.assert_allclose(last[0], logits[row], atol=TOLERANCE, rtol=0)

    everything = tensors(inputs, range(len(hidden)), typed)
    golden = Golden(
        folder,
        tensors=lambda samples: tensors(inputs, samples, typed),
        samples=len(hidden),
        states=[States(LANE, by_layer(hidden), valid, places)],
        logits=[Logits(LANE, final=logits)],
        checks={"cropped": alone, "cosine": cosine_exits(everything)},
    )
    return {"": golden}


def tensors(inputs: Arrays, samples: Sequence[int], typed: bool) -> dict[str, Array]:
    """Return the raw tensors of some samples, padded to the longest of all."""
    chosen = list(samples)
    features = inputs["visual_embeds"][chosen].astype(np.float32)
    return {
        "input_ids": inputs["input_ids"][chosen],
        "attention_mask": inputs["attention_mask"][chosen],
        "region_features": features,
        "region_boxes": np.zeros((*features.shape[:2], 4), dtype=np.float32),
        "region_mask": inputs["visual_attention_mask"][chosen],
        **({TYPES: inputs[TYPES][chosen]} if typed else {}),
    }
