"""Relative positions: one table of biases a layer, and where a pair of tokens finds its row.

A row of the table is the difference of two numbers, one of the query's token and one of the key's.
So a lane's tokens carry two whole numbers each, and no array of pairs; and one layer serves text,
images, and images without such a bias.
"""

import math

import torch
from torch import Tensor

from exeunt.export.families.ofa.config import OfaConfig

MOST_POSITIONS = 1024  # where the buckets of text distances end, in every official checkpoint


def token_bucket(difference: Tensor, bucket_size: int) -> Tensor:
    """Return the bucket i64 of each signed distance of two text tokens.

    Distances up to half a bucket size have a bucket each, further ones share it with more and more
    others: with mid = bucket_size // 2, ceil(ln(d / mid) / ln(1023 / mid) * (mid - 1)) + mid.

    Args:
        difference: i64[...], query minus key, at most 1023 either way.
        bucket_size: of the table, which has 2 * bucket_size - 1 rows.
    """
    middle = bucket_size // 2
    distance = difference.abs().clamp(min=middle)
    octaves = torch.log(distance / middle) / math.log((MOST_POSITIONS - 1) / middle)
    far = (torch.ceil(octaves * (middle - 1)) + middle).to(torch.int64) * difference.sign()
    return torch.where(difference.abs() <= middle, difference, far) + bucket_size - 1


class RelativePositions:
    """The layout of an encoder layer's table: [nothing; distances of text; offsets of patches].

    rows: of the table. nothing: the row of zeros.
    """

    def __init__(self, config: OfaConfig) -> None:
        self._config = config
        self._text_rows = 2 * config.max_source_length - 1
        self._side = 2 * config.image_bucket_size - 1
        self.rows = 1 + self._text_rows + self._side**2

    def text(self) -> tuple[Tensor, Tensor]:
        """Return the numbers of text tokens as queries and as keys, i64[P] each.

        P is the longest text.
        """
        places = torch.arange(self._config.max_source_length)
        return places + self._config.max_source_length, places

    def image(self) -> tuple[Tensor, Tensor]:
        """Return the numbers of image tokens as queries and as keys, i64[N] each.

        All zero, which is the row of nothing, unless the config asks for `image_relative_bias`.
        """
        if not self._config.image_relative_bias:
            nothing = torch.zeros(self._config.image_tokens, dtype=torch.int64)
            return nothing, nothing.clone()
        line = torch.arange(self._config.grid)
        places = (line[:, None] * self._side + line[None, :]).flatten()
        return places + 1 + self._text_rows + self._side**2 // 2, places

    def table(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """Return a layer's table f32[rows, H].

        Args:
            tokens: f32[2 * token_bucket_size - 1, H], the biases of text distances, by bucket.
            patches: f32[(2 * image_bucket_size - 1) ** 2 + 3, H], the biases of patch offsets; the
                last three are those of a [CLS] that no lane has.
        """
        longest = self._config.max_source_length
        distances = torch.arange(1 - longest, longest, device=tokens.device)
        text = tokens[token_bucket(distances, self._config.token_bucket_size)]
        return torch.cat([torch.zeros_like(tokens[:1]), text, patches[: self._side**2]])
