"""UNITER's goldens, and UNITER-MSD's: the official collate of six samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from exeunt.export.families.options import SourceOptions
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


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    variants = {"": golden(folder, inputs, expected, "", SourceOptions())}
    if "hidden_reinit" in expected:
        options = SourceOptions(parity=("reinit-poolers",))
        variants["reinit"] = golden(folder, inputs, expected, "_reinit", options)
    return variants


def golden(
    folder: Path, inputs: Arrays, expected: Arrays, suffix: str, options: SourceOptions
) -> Golden:
    hidden = expected[f"hidden{suffix}"]  # [N, L + 1, (rows,) S, D]
    rows = hidden.shape[2] if hidden.ndim == 5 else 1
    lengths = inputs["txt_lens"] + inputs["num_bbs"]
    shape = (-1, rows) if rows > 1 else (-1,)
    valid = first_valid(lengths.reshape(shape), hidden.shape[-2])
    layers = hidden.shape[1] - 1
    heads = by_layer(expected[f"logits_exit{suffix}"], 1) if "logits_exit" in expected else {}
    exits = [
        Exits(
            LANE,
            "entropy",
            expected[f"thresholds{suffix}"].tolist(),
            expected[f"exit_layer{suffix}"],
            expected[f"logits_at_exit{suffix}"],
        )
        for _ in heads and [0]
    ]
    assert not heads or len(heads) == layers, "an exit after every layer"
    return Golden(
        folder,
        tensors=lambda samples: tensors(inputs, rows, samples),
        samples=hidden.shape[0],
        states=[States(LANE, by_layer(hidden), valid)],
        logits=[Logits(LANE, heads, expected[f"logits_final{suffix}"])],
        exits=exits,
        options=options,
    )


def tensors(inputs: Arrays, rows: int, samples: Sequence[int]) -> dict[str, Array]:
    """Return the raw tensors of some samples; of a pair of images each is a row of its own."""

    def of(name: str) -> Array:
        array = inputs[name]
        return array.reshape(-1, rows, *array.shape[1:])[list(samples)]

    words, regions = of("txt_lens")[:, 0], of("num_bbs")
    size = int(regions.max())
    seen = {
        "region_features": cut(of("img_feat"), 2, regions),
        "region_boxes": cut(of("img_pos_feat"), 2, regions),
        "region_mask": first_valid(regions, size).astype(np.int64),
    }
    return {
        "input_ids": cut(of("input_ids")[:, 0], 1, words),
        "attention_mask": first_valid(words, int(words.max())).astype(np.int64),
        **(seen if rows > 1 else {name: array[:, 0] for name, array in seen.items()}),
    }
