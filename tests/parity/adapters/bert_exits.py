"""DeeBERT's and PABEE's goldens: the official code ran each text alone, without padding."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.support.goldens import (
    EXPECTED,
    INPUTS,
    Array,
    Arrays,
    Exits,
    Golden,
    Logits,
    States,
    by_layer,
    cut,
    first_valid,
    read_arrays,
)

LANE = "joint"


def golden(folder: Path, criterion: str, thresholds: str, final: str | None) -> Golden:
    """Return a folder's golden.

    Args:
        folder: of it.
        criterion: that its exits are taken by.
        thresholds: the array of those.
        final: the array of the final head's logits, where there is one beside the exits.
    """
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    hidden = expected["hidden"]  # [N, L + 1, T, D]
    return Golden(
        folder,
        tensors=lambda samples: tensors(inputs, samples),
        samples=hidden.shape[0],
        states=[States(LANE, by_layer(hidden), first_valid(inputs["text_lens"], hidden.shape[2]))],
        logits=[
            Logits(LANE, by_layer(expected["logits_exit"], 1), expected[final] if final else None)
        ],
        exits=[
            Exits(
                LANE,
                criterion,
                expected[thresholds].tolist(),
                expected["exit_layer"],
                expected["logits_at_exit"],
            )
        ],
    )


def tensors(inputs: Arrays, samples: Sequence[int]) -> Mapping[str, Array]:
    rows = list(samples)
    lengths = inputs["text_lens"][rows]
    return {
        "input_ids": cut(inputs["input_ids"][rows], 1, lengths),
        "attention_mask": first_valid(lengths, int(lengths.max())).astype(np.int64),
        "token_type_ids": cut(inputs["token_type_ids"][rows], 1, lengths),
    }
