"""VL-BERT's goldens: questions without special tokens, and boxes in pixels."""

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

LANE = "joint"
CLS, SEP = 101, 102


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    hidden, logits = expected["hidden"], expected["logits"]  # [N, L + 1, T, D]
    golden = Golden(
        folder,
        tensors=lambda samples: tensors(inputs, samples),
        samples=len(logits),
        states=[States(LANE, by_layer(hidden), first_valid(expected["seq_len"], hidden.shape[2]))],
        logits=[Logits(LANE, final=logits)],
        checks={"cosine": cosine_exits(tensors(inputs, range(len(logits))))},
    )
    return {"": golden}


def tensors(inputs: Arrays, samples: Sequence[int]) -> dict[str, Array]:
    """Return the raw tensors of some samples; the bundle adds what is behind the question."""
    rows = list(samples)
    words, regions = inputs["question_lens"][rows] + 2, inputs["num_boxes"][rows]
    ids = np.zeros((len(rows), int(words.max())), dtype=np.int64)
    for row, (sample, count) in enumerate(zip(rows, words, strict=True)):
        ids[row, :count] = [CLS, *inputs["question"][sample, : count - 2], SEP]
    size = np.tile(inputs["im_info"][rows, :2], (1, 2))  # width, height, width, height
    boxes = cut(inputs["boxes_xyxy"][rows] / size[:, None], 1, regions)
    mask = first_valid(regions, boxes.shape[1])
    return {
        "input_ids": ids,
        "attention_mask": first_valid(words, ids.shape[1]).astype(np.int64),
        "region_features": cut(inputs["box_features"][rows].astype(np.float32), 1, regions),
        "region_boxes": np.where(mask[..., None], boxes, 0).astype(np.float32),
        "region_mask": mask.astype(np.int64),
    }
