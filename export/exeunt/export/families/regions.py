"""Detector features as raw tensors: what every family that needs a detector shares."""

from typing import Literal

import torch
from torch import Tensor

from exeunt.engine.bundle.tensors import TensorSpec
from exeunt.export.plan import TensorMap

Per = Literal["sample", "row"]

WORDS, REGIONS = "S", "R"  # the symbolic sizes of texts and of regions


def text_tensors(*, per_row: bool = False) -> dict[str, TensorSpec]:
    """Return the raw tensors of one sample's text.

    Args:
        per_row: whether each row of a sample has a text of its own.
    """
    return {name: _of_words(per_row) for name in ("input_ids", "attention_mask")}


def type_tensors(*, per_row: bool = False) -> dict[str, TensorSpec]:
    """Return the raw tensor of the words' types, for models that are told them."""
    return {"token_type_ids": _of_words(per_row)}


def _of_words(per_row: bool) -> TensorSpec:
    return TensorSpec(dtype="int64", shape=(WORDS,), per="row" if per_row else "sample")


def region_tensors(
    features: int, box_columns: int, *, per_row: bool = False
) -> dict[str, TensorSpec]:
    """Return the raw tensors of one sample's regions.

    Args:
        features: width of a region's feature.
        box_columns: of its box.
        per_row: whether each row of a sample has regions of its own.
    """
    per: Per = "row" if per_row else "sample"
    return {
        "region_features": TensorSpec(dtype="float32", shape=(REGIONS, features), per=per),
        "region_boxes": TensorSpec(dtype="float32", shape=(REGIONS, box_columns), per=per),
        "region_mask": TensorSpec(dtype="int64", shape=(REGIONS,), per=per),
    }


def draw_text(
    generator: torch.Generator, shape: tuple[int, ...], words: int, vocabulary: int
) -> TensorMap:
    """Return random texts of at most `words` tokens, i64[*shape, S], some of them padding."""
    mask = draw_mask(generator, shape, words)
    ids = torch.randint(1, vocabulary, (*shape, words), generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask}


def draw_regions(
    generator: torch.Generator, shape: tuple[int, ...], regions: int, features: int, boxes: int
) -> TensorMap:
    """Return random regions, [*shape, R, ...], some of them padding; features as a ReLU's."""
    mask = draw_mask(generator, shape, regions)
    return {
        "region_features": torch.randn(*shape, regions, features, generator=generator).relu(),
        "region_boxes": torch.rand(*shape, regions, boxes, generator=generator),
        "region_mask": mask,
    }


def draw_mask(generator: torch.Generator, shape: tuple[int, ...], length: int) -> Tensor:
    """Return i64[*shape, length]: 1 at a random number of first places, one at least."""
    valid = torch.randint(1, length + 1, (*shape, 1), generator=generator)
    return (torch.arange(length) < valid).to(torch.int64)
