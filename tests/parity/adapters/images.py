"""The raw tensors of goldens with one image of a fixed size and a text: CLIP's and BLIP's."""

from collections.abc import Sequence

import numpy as np

from tests.support.goldens import Array, Arrays, States, by_layer, cut, first_valid


def tensors(inputs: Arrays, samples: Sequence[int]) -> dict[str, Array]:
    """Return the raw tensors of some samples."""
    chosen = list(samples)
    words = inputs["text_lens"][chosen]
    return {
        "pixel_values": inputs["pixel_values"][chosen].astype(np.float32),
        "input_ids": cut(inputs["input_ids"][chosen], 1, words),
        "attention_mask": cut(inputs["attention_mask"][chosen], 1, words),
    }


def image_states(expected: Arrays) -> States:
    """Return the states of the image lane, all of whose tokens are valid."""
    hidden = expected["vision_hidden"]
    return States("image", by_layer(hidden), np.ones((len(hidden), hidden.shape[2]), dtype=bool))


def text_states(lane: str, inputs: Arrays, expected: Arrays) -> States:
    """Return the states of the lane that walks the text."""
    hidden = expected["text_hidden"]
    return States(lane, by_layer(hidden), first_valid(inputs["text_lens"], hidden.shape[2]))
