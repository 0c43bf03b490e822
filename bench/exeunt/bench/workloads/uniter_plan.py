"""Cutting the synthetic model: one `joint` lane with an exit head after each layer."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from exeunt.bench.workloads.config import BOX_COLUMNS, FEATURE_SIZE, LANE, UniterConfig
from exeunt.bench.workloads.uniter import UniterModel, uniter_base
from exeunt.engine.bundle.inputs import InputsSpec, RegionsSpec
from exeunt.engine.bundle.manifest import BucketSpec, LaneSpec, PackedSpec, TaskSpec
from exeunt.engine.bundle.tensors import StateSpec, TensorSpec
from exeunt.export.layers.bert import BertLayer
from exeunt.export.layers.bert_packed import PackedBertLayer
from exeunt.export.plan import BATCH, BundlePlan, Port, SegmentPlan, TensorMap

NAME = "uniter-base"
TENSORS = {
    "input_ids": TensorSpec(dtype="int64", shape=("S",)),
    "attention_mask": TensorSpec(dtype="int64", shape=("S",)),
    "region_features": TensorSpec(dtype="float32", shape=("R", FEATURE_SIZE)),
    "region_boxes": TensorSpec(dtype="float32", shape=("R", BOX_COLUMNS)),
    "region_mask": TensorSpec(dtype="int64", shape=("R",)),
}
PAD_TO_MULTIPLE = 4  # of words and of regions
# Sizes to trace with: all different, so that the exporter does not tie two axes together.
EXAMPLE_BATCH, EXAMPLE_WORDS, EXAMPLE_REGIONS = 3, 5, 6


def uniter_plan(config: UniterConfig) -> BundlePlan:
    """Return the model of `config` as `write_bundle` takes it."""
    model = uniter_base(config)

    def whole(tensors: Mapping[str, Tensor]) -> TensorMap:
        exits = model(*(tensors[name] for name in TENSORS))
        return {_head(layer): logits for layer, logits in enumerate(exits, 1)}

    def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
        regions = max(1, round(length * config.regions / config.words))
        return _draw(config, generator, batch, length, regions)

    labels = tuple(f"label-{place}" for place in range(config.labels))
    return BundlePlan(
        family="synthetic",
        name=NAME,
        tasks=(TaskSpec(name="answer", kind="classification", lane=LANE, labels=labels),),
        tensors=TENSORS,
        inputs=InputsSpec(
            regions=RegionsSpec(
                feature_size=FEATURE_SIZE, box_columns=BOX_COLUMNS, max_regions=config.regions
            )
        ),
        lanes=(_lane(config),),
        segments=_segments(model),
        whole=whole,
        draw=draw,
        lengths=tuple(sorted({max(1, config.words // 4), config.words})),
        buckets={
            "S": BucketSpec(multiple=PAD_TO_MULTIPLE, most=config.words),
            "R": BucketSpec(multiple=PAD_TO_MULTIPLE, most=config.regions),
        },
    )


def _lane(config: UniterConfig) -> LaneSpec:
    layers = range(1, config.layers + 1)
    return LaneSpec(
        name=LANE,
        state={
            "hidden": StateSpec(role="carried", dtype="float32", shape=("T", config.hidden)),
            "mask": StateSpec(role="constant", dtype="float32", shape=("T",)),
        },
        entry="embed",
        layers=tuple(_layer(layer) for layer in layers),
        heads={layer: _head(layer) for layer in layers},
        classes=config.labels,
        scores=("entropy", "patience", "cosine", "confidence", "margin"),
        compare={"hidden": "mask"},
        packed=PackedSpec(
            layers=tuple(_packed(layer) for layer in layers), mask="mask", heads_read="first"
        ),
    )


def _layer(layer: int) -> str:
    return f"layer.{layer:02d}"


def _packed(layer: int) -> str:
    return f"packed.{layer:02d}"


def _head(layer: int) -> str:
    return f"head.{layer:02d}"


def _segments(model: UniterModel) -> tuple[SegmentPlan, ...]:
    config = model.config
    generator = torch.Generator().manual_seed(0)
    raw = _draw(config, generator, EXAMPLE_BATCH, EXAMPLE_WORDS, EXAMPLE_REGIONS)
    tokens, width = EXAMPLE_WORDS + EXAMPLE_REGIONS, config.hidden
    hidden = torch.randn(EXAMPLE_BATCH, tokens, width, generator=generator)
    mask = torch.ones(hidden.shape[:2])
    state = Port("hidden", "hidden", (BATCH, "T", width))
    valid = Port("mask", "mask", (BATCH, "T"))
    written = Port("next_hidden", "hidden", (BATCH, "T", width))
    entry = SegmentPlan(
        name="embed",
        kind="entry",
        module=model.entry,
        inputs=tuple(
            Port(name, f"input.{name}", (BATCH, *spec.shape)) for name, spec in TENSORS.items()
        ),
        outputs=(state, valid),
        examples=tuple(raw.values()),
    )
    layers = [
        SegmentPlan(_layer(place), "layer", module, (state, valid), (written,), (hidden, mask))
        for place, module in enumerate(model.layers, 1)
    ]
    tokens_of = Port("hidden", "hidden", ("N", width))
    pack = (
        Port("gather", "pack.gather", (BATCH, "T")),
        Port("valid", "pack.mask", (BATCH, "T")),
        Port("scatter", "pack.scatter", ("N",)),
    )
    example = _pack_example(width, generator)
    packed = [
        SegmentPlan(
            _packed(place),
            "layer",
            PackedBertLayer(module),
            (tokens_of, *pack),
            (Port("next_hidden", "hidden", ("N", width)),),
            example,
        )
        for place, module in enumerate(_bert_layers(model), 1)
    ]
    logits = Port("logits", "head.logits", (BATCH, config.labels))
    heads = [
        SegmentPlan(_head(place), "head", module, (state,), (logits,), (hidden,))
        for place, module in enumerate(model.heads, 1)
    ]
    return (entry, *layers, *packed, *heads)


def _bert_layers(model: UniterModel) -> list[BertLayer]:
    layers = list(model.layers)
    assert all(isinstance(layer, BertLayer) for layer in layers), "UNITER's layers are BERT's"
    return cast(list[BertLayer], layers)


def _pack_example(width: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return tokens and index tensors to trace with: three rows of 2, 5 and 6 tokens."""
    lengths = torch.tensor([2, 5, 6])
    places = torch.arange(7)
    inside = places < lengths[:, None]
    starts = torch.cumsum(lengths, 0) - lengths
    return (
        torch.randn(int(lengths.sum()), width, generator=generator),
        starts[:, None] + places * inside,
        inside.to(torch.float32),
        torch.nonzero(inside.flatten())[:, 0],
    )


def _draw(
    config: UniterConfig, generator: torch.Generator, batch: int, words: int, regions: int
) -> TensorMap:
    """Return random raw tensors of `batch` samples, some of their words and regions padding."""

    def mask(length: int) -> Tensor:
        valid = torch.randint(1, length + 1, (batch, 1), generator=generator)
        return (torch.arange(length)[None, :] < valid).to(torch.int64)

    spoken, seen = mask(words), mask(regions)
    ids = torch.randint(1, config.vocab, (batch, words), generator=generator)
    return {
        "input_ids": ids * spoken,
        "attention_mask": spoken,
        "region_features": torch.rand(batch, regions, FEATURE_SIZE, generator=generator),
        "region_boxes": torch.rand(batch, regions, BOX_COLUMNS, generator=generator),
        "region_mask": seen,
    }
