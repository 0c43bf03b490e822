"""The model of `uniter-base` with an image in place of a detector's regions, as in ViLT."""

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exeunt.bench.workloads.config import UniterConfig
from exeunt.bench.workloads.patch_words import PAD_TO_MULTIPLE
from exeunt.bench.workloads.uniter import REGION_TYPE, TextEmbeddings, UniterEntry
from exeunt.bench.workloads.uniter_plan import uniter_plan
from exeunt.engine.bundle.inputs import ImageSpec, InputsSpec, TextSpec
from exeunt.engine.bundle.tensors import TensorSpec
from exeunt.engine.errors import ConfigError
from exeunt.export.layers.bert import EPS
from exeunt.export.plan import BATCH, BundlePlan, Port, SegmentPlan, TensorMap

PATCH = 16  # pixels a side; a patch has 16 x 16 x 3 = 768 values
CHANNELS = 3
HALF = (0.5, 0.5, 0.5)
# Sizes to trace with: all different, so that the exporter does not tie two axes together.
EXAMPLE_BATCH, EXAMPLE_WORDS = 7, 5


class PatchEntry(nn.Module):
    """Words and patches as one sequence, with its mask."""

    def __init__(self, text: TextEmbeddings, config: UniterConfig) -> None:
        super().__init__()
        self.text = text
        self.side = patches_a_side(config)
        self.projection = nn.Linear(PATCH * PATCH * CHANNELS, config.hidden)
        self.positions = nn.Embedding(config.regions, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=EPS)

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embed a batch.

        Args:
            pixel_values: f32[B, 3, P, P], P a multiple of the patch.
            input_ids: i64[B, S].
            attention_mask: i64[B, S], 1 at words and 0 at padding.

        Returns:
            The state f32[B, S + R, D] and its mask f32[B, S + R].
        """
        batch, side = pixel_values.shape[0], self.side
        grid = pixel_values.reshape(batch, CHANNELS, side, PATCH, side, PATCH)
        patches = grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, side * side, -1)
        kind = self.text.token_type_embeddings.weight[REGION_TYPE]
        seen = self.LayerNorm(self.projection(patches) + self.positions.weight + kind)
        words = self.text(input_ids)
        valid = attention_mask.to(words.dtype)
        everywhere = torch.ones_like(seen[:, :, 0])
        return torch.cat([words, seen], dim=1), torch.cat([valid, everywhere], dim=1)


def patches_a_side(config: UniterConfig) -> int:
    """Return the patches along a side of the square image.

    Raises:
        ConfigError: the configuration's regions are no square number.
    """
    side = isqrt(config.regions)
    if side * side != config.regions:
        raise ConfigError(f"{config.regions} patches fill no square image: give 36, or 9, 16, 25")
    return side


def patches_plan(config: UniterConfig, tokenizer: Path) -> BundlePlan:
    """Return the model as `write_bundle` takes it: layers and heads are those of `uniter-base`.

    Args:
        config: the sizes; `regions` counts the patches.
        tokenizer: the file of `words_tokenizer`.

    Raises:
        ConfigError: see `patches_a_side`.
    """
    base = uniter_plan(config)
    embed, *others = base.segments
    entry = _entry(config, embed.module)
    size = patches_a_side(config) * PATCH
    tensors = {
        "pixel_values": TensorSpec(dtype="float32", shape=(CHANNELS, size, size)),
        "input_ids": TensorSpec(dtype="int64", shape=("S",)),
        "attention_mask": TensorSpec(dtype="int64", shape=("S",)),
    }

    def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
        return _draw(config, generator, batch, length)

    def whole(raw: Mapping[str, Tensor]) -> TensorMap:
        modules = {segment.name: segment.module for segment in others}
        lane = base.lanes[0]
        hidden, mask = entry(*(raw[name] for name in tensors))
        logits = {}
        for layer, name in enumerate(lane.layers, 1):
            hidden = modules[name](hidden, mask)
            logits[lane.heads[layer]] = modules[lane.heads[layer]](hidden)
        return logits

    raw = draw(torch.Generator().manual_seed(0), EXAMPLE_BATCH, EXAMPLE_WORDS)
    first = SegmentPlan(
        name=embed.name,
        kind="entry",
        module=entry,
        inputs=tuple(
            Port(name, f"input.{name}", (BATCH, *spec.shape)) for name, spec in tensors.items()
        ),
        outputs=embed.outputs,
        examples=tuple(raw.values()),
    )
    return replace(
        base,
        name="uniter-patches",
        tensors=tensors,
        inputs=InputsSpec(
            image=ImageSpec(size=(size, size), mean=HALF, std=HALF),
            text=TextSpec(max_tokens=config.words, pad_to_multiple=PAD_TO_MULTIPLE),
        ),
        segments=(first, *others),
        whole=whole,
        draw=draw,
        buckets={},  # the text is padded as `inputs` says, and an image has one size
        files={"tokenizer.json": tokenizer},
    )


def _entry(config: UniterConfig, module: nn.Module) -> PatchEntry:
    """Return the entry in eval mode; the words' part keeps its weights, the rest is drawn."""
    assert isinstance(module, UniterEntry), "the first segment of uniter_plan"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(config.seed + 1)
        entry = PatchEntry(module.embeddings, config)
        entry.projection.weight.normal_(std=float(np.sqrt(3 / entry.projection.in_features)))
        entry.projection.bias.normal_(std=0.05)
        entry.positions.weight.normal_(std=0.7)
        entry.LayerNorm.weight.normal_(mean=1.0, std=0.1)
        entry.LayerNorm.bias.normal_(std=0.05)
    return entry.eval()


def _draw(config: UniterConfig, generator: torch.Generator, batch: int, words: int) -> TensorMap:
    """Return random raw tensors of `batch` samples, some of their words padding."""
    size = patches_a_side(config) * PATCH
    valid = torch.randint(1, words + 1, (batch, 1), generator=generator)
    mask = (torch.arange(words)[None, :] < valid).to(torch.int64)
    ids = torch.randint(1, config.vocab, (batch, words), generator=generator)
    return {
        "pixel_values": torch.rand(batch, CHANNELS, size, size, generator=generator) * 2 - 1,
        "input_ids": ids * mask,
        "attention_mask": mask,
    }
