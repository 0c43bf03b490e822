"""Cutting a VL-BERT checkpoint for VQA: question, regions and [END] in one lane of BERT's layers.

A bundle takes regions as every family does; the first is the whole image, with the mean of the
others' features, as official code puts it there. The bundle itself adds [MASK] to the question.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from exeunt.engine.bundle.inputs import InputsSpec, RegionsSpec
from exeunt.engine.bundle.manifest import LaneSpec, TaskSpec
from exeunt.engine.bundle.tensors import StateSpec
from exeunt.export.errors import ExportError
from exeunt.export.families.hf.cutting import Cutter, carried, constant
from exeunt.export.families.hf.inputs import (
    EXAMPLE_BATCH,
    EXAMPLE_REGIONS,
    EXAMPLE_WORDS,
    MAX_REGIONS,
    region_buckets,
    text_buckets,
    text_lengths,
    text_spec,
)
from exeunt.export.families.joint import ENTRY, FINAL, LANE, layer_name
from exeunt.export.families.options import (
    DEFAULTS,
    TOKENIZER_FILE,
    SourceOptions,
    check_options,
    read_labels,
    tokenizer_file,
)
from exeunt.export.families.regions import draw_regions, draw_text, region_tensors, text_tensors
from exeunt.export.families.state_dict import fit, required
from exeunt.export.families.vlbert.config import (
    VlbertConfig,
    config_file,
    peek_dataset,
    read_config,
)
from exeunt.export.families.vlbert.model import (
    COORDINATE_WIDTH,
    MASK_TOKEN,
    Vlbert,
    VlbertEntry,
    VlbertHead,
)
from exeunt.export.families.weights import Weights, read_state_dict
from exeunt.export.plan import BundlePlan, TensorMap

BOX_COLUMNS = 4
TASK = "vqa"
# [MASK] [SEP] behind the question, the regions and [END]: as many positions as words at most.
ADDED = 4
PROJECTION = "image_feature_extractor.obj_downsample.1.weight"
# The backbone that computed the features, where they are not precomputed; and what VQA never reads.
UNUSED = (
    "image_feature_extractor.backbone.*",
    "image_feature_extractor.roi_head_feature_extractor.*",
    "image_feature_extractor.head.*",
    "image_feature_extractor.regularizing_predictor.*",
    "vlbert.pooler.*",
)
TENSORS = ("input_ids", "attention_mask", "region_features", "region_boxes", "region_mask")


class VlbertFamily:
    """VL-BERT; see `exeunt.export.families.vlbert`."""

    name = "vlbert"
    keys = ("vlbert.*end_embedding.weight", "vlbert.*visual_ln_text.weight")

    def detect(self, source: Path) -> bool:
        """Return whether the settings beside the weights have a `NETWORK.VLBERT`."""
        return peek_dataset(source) is not None

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("labels", "tokenizer"))
        config, weights = read_config(source), read_state_dict(source)
        network = config.NETWORK.VLBERT
        words = network.max_position_embeddings - ADDED
        if words < 1 or network.vocab_size <= MASK_TOKEN:
            raise ExportError(
                f"{config_file(source)}: expected over {ADDED} max_position_embeddings and over"
                f" {MASK_TOKEN} words, found {network.max_position_embeddings} and"
                f" {network.vocab_size}"
            )
        features, model = _load(config, weights)
        tensors = {**text_tensors(), **region_tensors(features, BOX_COLUMNS)}
        lane = _lane(config)

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return {
                **draw_text(generator, (batch,), length, network.vocab_size),
                **draw_regions(generator, (batch,), EXAMPLE_REGIONS, features, BOX_COLUMNS),
            }

        example = draw(torch.Generator().manual_seed(0), EXAMPLE_BATCH, min(EXAMPLE_WORDS, words))
        entry, head = VlbertEntry(model), VlbertHead(model)
        cutter = Cutter(tensors, example)
        cutter.lane(lane, entry, [f"input.{name}" for name in TENSORS])
        cutter.layers(lane, model.vlbert.layers, ["hidden", "mask"])
        cutter.head(lane, FINAL, head, ["hidden", "place"])

        def whole(given: Mapping[str, Tensor]) -> TensorMap:
            hidden, mask, place = entry(*(given[name] for name in TENSORS))
            for layer in model.vlbert.layers:
                hidden = layer(hidden, mask)
            return {FINAL: head(hidden, place)}

        tokenizer = tokenizer_file(options, network.vocab_size)
        labels = read_labels(options, model.classes)
        return BundlePlan(
            family=self.name,
            name=f"{self.name}-{TASK}",
            tasks=(TaskSpec(name=TASK, kind="classification", lane=LANE, labels=labels),),
            tensors=tensors,
            inputs=InputsSpec(
                text=text_spec(words) if tokenizer else None,
                regions=RegionsSpec(
                    feature_size=features, box_columns=BOX_COLUMNS, max_regions=MAX_REGIONS + 1
                ),
            ),
            lanes=(lane,),
            segments=tuple(cutter.segments),
            whole=whole,
            draw=draw,
            lengths=text_lengths(words),
            files={TOKENIZER_FILE: tokenizer} if tokenizer else {},
            buckets={**text_buckets(words), **region_buckets()},
        )


def _load(config: VlbertConfig, weights: Weights) -> tuple[int, Vlbert]:
    """Return the width of a region's feature, and the model in eval mode."""
    features = required(weights, PROJECTION, axes=2).shape[1] - COORDINATE_WIDTH
    if features < 1:
        raise ExportError(
            f"{weights.file}: {PROJECTION!r} reads {features + COORDINATE_WIDTH} numbers of a"
            f" region, expected its feature behind {COORDINATE_WIDTH} of its box"
        )
    try:
        model = Vlbert(config, features)
    except ValueError as error:
        raise ExportError(f"the config beside {weights.file} describes no model: {error}") from None
    fit(model, weights, unused=UNUSED)
    return features, model.eval()


def _lane(config: VlbertConfig) -> LaneSpec:
    layers = range(1, config.NETWORK.VLBERT.num_hidden_layers + 1)
    return LaneSpec(
        name=LANE,
        state={
            "hidden": carried("T", config.NETWORK.VLBERT.hidden_size),
            "mask": constant("T"),
            "place": StateSpec(role="constant", dtype="int64", shape=()),
        },
        entry=ENTRY,
        layers=tuple(layer_name(layer) for layer in layers),
        heads=dict.fromkeys(layers, FINAL),
        classes=config.DATASET.ANSWER_VOCAB_SIZE,
        scores=("cosine",),
        compare={"hidden": "mask"},
    )
