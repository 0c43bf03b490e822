"""Requests for the synthetic model that takes an image and a text."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from exeunt.bench.workloads.config import UniterConfig
from exeunt.bench.workloads.patch_words import word
from exeunt.bench.workloads.samples import SHORTEST_TEXT

PICTURES = 48  # different ones; requests beyond share them, as questions share pictures
COARSE = 12  # pixels a side of what is enlarged to a picture


@dataclass(frozen=True)
class PictureRequest:
    """One request. image: a PNG file's bytes. text: words of the vocabulary."""

    image: bytes
    text: str


def draw_requests(
    config: UniterConfig, count: int, size: int, *, seed: int = 0
) -> list[PictureRequest]:
    """Return random requests, each with a text of its own.

    Args:
        config: the model's sizes; the texts have 8 to `config.words` words, uniformly.
        count: requests.
        size: pixels a side of the pictures.
        seed: of the requests.
    """
    random = np.random.default_rng(seed)
    pictures = [_picture(random, size) for _ in range(min(count, PICTURES))]
    least = min(SHORTEST_TEXT, config.words)
    lengths = random.integers(least, config.words, count, endpoint=True)
    return [
        PictureRequest(
            pictures[place % len(pictures)],
            " ".join(word(one) for one in random.integers(2, config.vocab, length).tolist()),
        )
        for place, length in enumerate(lengths.tolist())
    ]


def _picture(random: np.random.Generator, size: int) -> bytes:
    """Return blurred spots of random colours as a PNG file."""
    coarse = random.integers(0, 256, (COARSE, COARSE, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
