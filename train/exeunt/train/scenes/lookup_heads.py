"""Heads of the auxiliary losses that teach the decoder where a statement is decided."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.train.scenes.targets import LOOKUPS

# After which share of the decoder's layers: first what a statement names, then what decides it.
_DEPTHS = (1 / 6, 1 / 2)


class LookupHeads(nn.Module):
    """Products of the decoder's first state and the image's tokens; not part of the model.

    A decomposed encoder has read image and text apart: only the decoder can find the one in the
    other, and three answers a statement are a weak signal to learn that from. Here its state learns
    to point at the cells that show the statement's kinds, and at those that make it true.
    """

    def __init__(self, hidden: int, layers: int, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.layers = [math.ceil(share * layers) for share in _DEPTHS]
        sizes = [len(names) for names in LOOKUPS]
        self.queries = nn.ModuleList([nn.Linear(hidden, size * width) for size in sizes])
        self.keys = nn.ModuleList([nn.Linear(hidden, size * width) for size in sizes])
        self.bias = nn.ParameterList([nn.Parameter(torch.zeros(size, 1)) for size in sizes])

    def forward(self, states: list[Tensor], image: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the losses, each a mean over the cells and summed over the rows.

        Args:
            states: of the decoder, the embedding first, f32[R, S, D].
            image: each row's image as the decoder reads it, f32[R, 16, D].
            targets: f32[R, 7, 16] in {0, 1}, in the order of `LOOKUPS`.
        """
        total = image.new_zeros((), dtype=torch.float32)
        first = 0
        for names, layer, make_query, make_key, bias in zip(
            LOOKUPS, self.layers, self.queries, self.keys, self.bias, strict=True
        ):
            count, rows = len(names), len(image)
            query = make_query(states[layer][:, 0]).view(rows, count, 1, self.width)
            key = make_key(image).view(rows, -1, count, self.width).transpose(1, 2)
            found = (query @ key.transpose(-1, -2))[:, :, 0].float() * self.width**-0.5 + bias
            wanted = targets[:, first : first + count]
            error = F.binary_cross_entropy_with_logits(found, wanted, reduction="none")
            total = total + error.mean(dim=2).sum()
            first += count
        return total
