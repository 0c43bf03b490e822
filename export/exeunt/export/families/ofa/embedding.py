"""Embeddings and tables of biases, as official training begins them."""

from typing import cast

from torch import Tensor, nn


def embedding(rows: int, width: int, padding: int | None = None) -> nn.Embedding:
    """Return an embedding with normal weights of deviation width^-1/2; zeros at `padding`."""
    made = nn.Embedding(rows, width, padding_idx=padding)
    nn.init.normal_(made.weight, std=width**-0.5)
    if padding is not None:
        nn.init.zeros_(made.weight[padding])
    return made


def tables(rows: int, heads: int, layers: int) -> nn.ModuleList:
    """Return a table of position biases for each layer, which begin at zero."""
    made = nn.ModuleList([nn.Embedding(rows, heads) for _ in range(layers)])
    for parameter in made.parameters():
        nn.init.zeros_(parameter)
    return made


def table_of(tables: nn.ModuleList, layer: int) -> Tensor:
    """Return a layer's table f32[rows, H]; layers count from 1."""
    return cast(nn.Embedding, tables[layer - 1]).weight
