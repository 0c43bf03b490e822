"""X-VLM's goldens and EfficientVLM's: image and text side by side, then layers that see both."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from exeunt.engine import Engine
from exeunt.export.families.options import DEFAULTS, SourceOptions
from exeunt.export.families.xvlm.config import read_config
from exeunt.export.families.xvlm.family import INTENDED_ROWS
from tests.parity.adapters.cosine import cosine_exits
from tests.parity.adapters.xvlm_answers import check_ranking, check_tokens
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
    first_valid,
    read_arrays,
)

INTENDED = "_maskfix"  # of arrays with the cross layers' own masks


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    if "itm_logits" in expected:
        options = SourceOptions(task="itm")
        return {
            "": golden(folder, inputs, expected, options=options),
            "itc": contrast(folder, inputs, expected),
        }
    variants = {"": golden(folder, inputs, expected)}
    if f"text_hidden{INTENDED}" in expected:
        options = SourceOptions(parity=(INTENDED_ROWS,))
        variants["intended"] = golden(folder, inputs, expected, INTENDED, options)
    return variants


def golden(
    folder: Path,
    inputs: Arrays,
    expected: Arrays,
    suffix: str = "",
    options: SourceOptions = DEFAULTS,
) -> Golden:
    """Return what walks the fusion lane, and the decoder where there is one."""
    samples = len(inputs["input_ids"])
    raw = partial(tensors, inputs)
    everything = raw(range(samples))
    states = encoder_states(folder, inputs, expected, suffix)
    checks: dict[str, Callable[[Engine], None]] = {"cosine": cosine_exits(everything)}
    if "answer_ids" in inputs:
        hidden = expected[f"decoder_first_hidden{suffix}"][:, :, np.newaxis]  # of one token
        states.append(States("decoder", by_layer(hidden), np.ones((samples, 1), dtype=bool)))
        logits = Logits("decoder", final=expected[f"decoder_first_logits{suffix}"])
        checks |= {
            "ranking": partial(check_ranking, everything, inputs, expected, suffix),
            "tokens": partial(check_tokens, everything),
        }
    elif "itm_logits" in expected:
        logits = Logits("fusion", final=expected["itm_logits"])
    else:
        logits = Logits("fusion", final=expected[f"cls_logits{suffix}"])
    return Golden(folder, raw, samples, states, [logits], checks=checks, options=options)


def contrast(folder: Path, inputs: Arrays, expected: Arrays) -> Golden:
    """Return what compares image and text by the products of their features."""
    features = expected["image_feat"], expected["text_feat"]
    samples = len(features[0])
    raw = partial(tensors, inputs)

    def embeddings(engine: Engine) -> None:
        found = engine.probe(raw(range(samples)))["match"].states
        for name, wanted in zip(("image_embed", "text_embed"), features, strict=True):
            np.testing.assert_allclose(found[name][0], wanted, atol=TOLERANCE, rtol=0)

    products = (features[0] * features[1]).sum(axis=1, keepdims=True)
    return Golden(
        folder,
        raw,
        samples,
        encoder_states(folder, inputs, expected)[:2],
        [Logits("match", final=products)],
        checks={"embeddings": embeddings, "cosine": cosine_exits(raw(range(samples)))},
        options=SourceOptions(task="itc"),
    )


def encoder_states(
    folder: Path, inputs: Arrays, expected: Arrays, suffix: str = ""
) -> list[States]:
    """Return the states of image, text and fusion; the text's last are the fusion's first."""
    vision, text = expected["vision_hidden"], expected[f"text_hidden{suffix}"]
    first = read_config(folder).text.fusion_layer
    words = first_valid(inputs["text_lens"], text.shape[2])
    return [
        States("image", by_layer(vision), np.ones(vision[:, 0].shape[:-1], dtype=bool)),
        States("text", by_layer(text[:, : first + 1]), words),
        States("fusion", by_layer(text[:, first:]), words),
    ]


def tensors(inputs: Arrays, samples: Sequence[int]) -> dict[str, Array]:
    """Return the raw tensors of some samples; each may have several images."""
    chosen = list(samples)
    words, pixels = inputs["text_lens"][chosen], inputs["images"].astype(np.float32)
    images = len(pixels) // len(inputs["input_ids"])
    if images > 1:
        pixels = pixels.reshape(-1, images, *pixels.shape[1:])
    return {
        "pixel_values": pixels[chosen],
        "input_ids": cut(inputs["input_ids"][chosen], 1, words),
        "attention_mask": cut(inputs["attention_mask"][chosen], 1, words),
    }
