"""Hugging Face's CLIP: the similarity of each image and its text, and of every other one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from exeunt.engine import Engine
from tests.parity.adapters.cosine import cosine_exits
from tests.parity.adapters.images import image_states, tensors, text_states
from tests.support.goldens import (
    EXPECTED,
    INPUTS,
    TOLERANCE,
    Golden,
    Logits,
    read_arrays,
)


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    samples = len(expected["logits_per_image_diag"])

    def embeddings(engine: Engine) -> None:
        found = engine.probe(tensors(inputs, range(samples)))["match"].states
        for name in ("image", "text"):
            wanted = expected[f"{name}_embeds"]
            np.testing.assert_allclose(found[f"{name}_embed"][0], wanted, atol=TOLERANCE, rtol=0)

    def pairs(engine: Engine) -> None:
        """Every image with every text, as requests of their own."""
        images, texts = (grid.ravel() for grid in np.indices((samples, samples)))
        raw = tensors(inputs, texts.tolist())
        raw["pixel_values"] = tensors(inputs, images.tolist())["pixel_values"]
        found = np.stack([answer.logits for answer in engine.run(raw)])[:, 0]
        wanted = expected["logits_per_image_all"].ravel()
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=0)

    golden = Golden(
        folder,
        tensors=lambda rows: tensors(inputs, rows),
        samples=samples,
        states=[image_states(expected), text_states("text", inputs, expected)],
        logits=[Logits("match", final=expected["logits_per_image_diag"][:, None])],
        checks={
            "embeddings": embeddings,
            "pairs": pairs,
            "cosine": cosine_exits(tensors(inputs, range(samples))),
        },
    )
    return {"": golden}
