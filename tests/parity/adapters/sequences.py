"""Where the tokens of a golden sequence are in a bundle's, which pads each part of it."""

from collections.abc import Sequence

import numpy as np

from exeunt.export.families.hf.inputs import text_buckets
from exeunt.export.families.regions import WORDS
from tests.support.goldens import Array


def padded_words(words: int, positions: int) -> int:
    """Return how long a text of `words` tokens is in a bundle of a model with `positions`."""
    return text_buckets(positions)[WORDS].padded(words)


def aligned(places: Sequence[Sequence[int]], size: int) -> tuple[Array, Array]:
    """Return bool[N, size], the places that have a token, and i64[N, size], where it is."""
    valid, where = np.zeros((len(places), size), dtype=bool), np.zeros((len(places), size), int)
    for row, found in enumerate(places):
        valid[row, : len(found)] = True
        where[row, : len(found)] = found
    return valid, where


def text_then_regions(words: Array, regions: Array, block: int, size: int) -> tuple[Array, Array]:
    """Return `aligned` of texts in front of regions, the text's part being `block` long."""
    places = [
        [*range(text), *range(block, block + seen)]
        for text, seen in zip(words.tolist(), regions.tolist(), strict=True)
    ]
    return aligned(places, size)


def text_then_patches(
    words: Array, grids: Array, block: int, columns: int, size: int
) -> tuple[Array, Array]:
    """Return `aligned` of texts in front of [CLS] and patches.

    Args:
        words: i64[N], tokens of each text.
        grids: i64[N, 2], rows and columns of patches that each image has.
        block: length of the text's part in the bundle.
        columns: of patches of the padded image.
        size: of the golden sequences.
    """
    places = [
        [
            *range(text),
            block,
            *(
                block + 1 + row * columns + column
                for row in range(height)
                for column in range(width)
            ),
        ]
        for text, (height, width) in zip(words.tolist(), grids.tolist(), strict=True)
    ]
    return aligned(places, size)
