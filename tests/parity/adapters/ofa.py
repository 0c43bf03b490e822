"""The goldens of OFA with MuE: two encoder lanes, and a text token by token."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exeunt.engine import Engine
from exeunt.engine.exit_policy import ExitPolicy
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
from tests.support.ofa_sequential import FILLS

LOGITS_TOLERANCE = 2e-4  # their entries are up to about 20
THRESHOLDS = "thresholds_img_txt_dec"


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    image, text = expected["enc_hidden_img"], expected["enc_hidden_txt"]
    everywhere = np.ones((image.shape[0], image.shape[2]), dtype=np.bool_)
    samples = partial(tensors, inputs)
    return {
        "": Golden(
            folder,
            tensors=samples,
            samples=len(inputs["src_lengths"]),
            states=[
                States("image", by_layer(image), everywhere),
                States("text", by_layer(text), first_valid(inputs["src_lengths"], text.shape[2])),
            ],
            logits=[Logits("decoder", final=expected["dec_logits"][:, 0])],
            checks={"tokens": partial(check_tokens, samples, expected)},
            logits_tolerance=LOGITS_TOLERANCE,
        )
    }


def tensors(inputs: Arrays, samples: Sequence[int]) -> dict[str, Array]:
    rows = list(samples)
    lengths = inputs["src_lengths"][rows]
    return {
        "patch_images": inputs["patch_images"][rows].astype(np.float32),
        "src_tokens": cut(inputs["src_tokens"][rows], 1, lengths),
        "attention_mask": first_valid(lengths, int(lengths.max())).astype(np.int64),
    }


def check_tokens(samples: partial[dict[str, Array]], expected: Arrays, engine: Engine) -> None:
    """Compare the texts, and where every token and both images' and texts' lanes exit."""
    rows = range(len(expected["dec_tokens"]))
    for place, thresholds in enumerate(expected[THRESHOLDS].tolist(), 1):
        for variant, fill in FILLS.items():
            at = f"_t{place}{variant}"
            engine.replace_exit_policy(policy(thresholds, fill))
            for row, answer in enumerate(engine.run(samples(rows))):
                tokens, exits = expected[f"dec_tokens{at}"][row], expected[f"dec_exit{at}"][row]
                lanes = [answer.lanes[lane].exit_layer for lane in ("image", "text")]
                assert lanes == expected[f"enc_exit_img_txt_t{place}"][row].tolist(), at
                assert list(answer.tokens) == tokens[tokens >= 0].tolist(), at
                assert list(answer.token_exit_layers) == exits[tokens >= 0].tolist(), at


def policy(thresholds: Sequence[float], fill: str) -> ExitPolicy:
    def rule(threshold: float, **options: Any) -> dict[str, Any]:
        return {"any": [{"criterion": "cosine", "threshold": threshold, "options": options}]}

    image, text, decoder = thresholds
    lanes = {"image": rule(image), "text": rule(text)}
    lanes["decoder"] = {**rule(decoder, decay={"schedule": "mue-code"}), "fill": fill}
    return ExitPolicy.model_validate({"tasks": {"default": lanes}})
