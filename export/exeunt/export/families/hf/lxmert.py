"""Cutting an LXMERT checkpoint: a text lane, an image lane, and layers that see both.

A row of the fusion lane carries two states, and `LxmertForQuestionAnswering` answers from the
pooled first token of the text's.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from exeunt.engine.bundle.manifest import LaneSpec, TaskSpec
from exeunt.export.families.hf.config import (
    find_labels,
    find_task,
    find_tokenizer,
    load,
    peek,
    read_config,
)
from exeunt.export.families.hf.cutting import Cutter, carried, constant, layer_names
from exeunt.export.families.hf.inputs import (
    EXAMPLE_BATCH,
    EXAMPLE_REGIONS,
    EXAMPLE_WORDS,
    region_buckets,
    text_and_regions,
    text_buckets,
    text_lengths,
)
from exeunt.export.families.hf.models.lxmert import AnswerHead, LxmertConfig, LxmertModel
from exeunt.export.families.options import DEFAULTS, SourceOptions, check_options, chosen_task
from exeunt.export.families.regions import (
    REGIONS,
    WORDS,
    draw_regions,
    draw_text,
    region_tensors,
    text_tensors,
)
from exeunt.export.families.state_dict import required
from exeunt.export.families.weights import Weights
from exeunt.export.plan import BundlePlan, TensorMap

TASKS = {"LxmertForQuestionAnswering": "vqa"}
BUFFERS = ("lxmert.embeddings.position_ids",)  # of older files
IMAGE, TEXT, FUSION, ANSWER = "image", "text", "fusion", "answer"
BOTH = ("language", "vision", "language_mask", "vision_mask")  # the fusion lane's states


class WordEntry(nn.Module):
    """The text lane's embedding."""

    def __init__(self, model: LxmertModel) -> None:
        super().__init__()
        self.embeddings = model.lxmert.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state f32[B, S, D] and its mask f32[B, S]."""
        return self.embeddings(input_ids), attention_mask.to(torch.float32)


class RegionEntry(nn.Module):
    """The image lane's embedding."""

    def __init__(self, model: LxmertModel) -> None:
        super().__init__()
        self.embeddings = model.lxmert.encoder.visn_fc

    def forward(self, features: Tensor, boxes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state f32[B, R, D] and its mask f32[B, R]."""
        return self.embeddings(features, boxes), mask.to(torch.float32)


class Join(nn.Module):
    """Both lanes' states and masks as they are."""

    def forward(
        self, language: Tensor, vision: Tensor, language_mask: Tensor, vision_mask: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the states, copied: a graph's output is none of its inputs."""
        return language.clone(), vision.clone(), language_mask.clone(), vision_mask.clone()


class LxmertFamily:
    """LXMERT; see `exeunt.export.families.hf.lxmert`."""

    name = "lxmert"
    keys = (
        "lxmert.encoder.visn_fc.visn_fc.weight",
        "lxmert.encoder.x_layers.0.visual_attention.att.query.weight",
    )

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` says that it is an LXMERT model."""
        return peek(source).get("model_type") == self.name

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("task", "labels", "tokenizer"))
        config = read_config(source, LxmertConfig)
        task = chosen_task(self.name, options, [find_task(source, config, TASKS)])
        model = load(source, lambda weights: _model(config, weights), unused=BUFFERS)
        classes = model.classes
        tensors = {
            **text_tensors(),
            **region_tensors(config.visual_feat_dim, config.visual_pos_dim),
        }

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return _draw(config, generator, batch, length)

        lanes = _lanes(config, classes)
        raw = draw(torch.Generator().manual_seed(0), EXAMPLE_BATCH, EXAMPLE_WORDS)
        cutter = Cutter(tensors, raw)
        _cut(cutter, model, lanes)
        files = find_tokenizer(source, options, config.vocab_size)
        positions = config.max_position_embeddings
        labels = find_labels(source, config, options, classes)
        return BundlePlan(
            family=self.name,
            name=f"{self.name}-{task}",
            tasks=(TaskSpec(name=task, kind="classification", lane=FUSION, labels=labels),),
            tensors=tensors,
            inputs=text_and_regions(files, positions, config.visual_feat_dim),
            lanes=lanes,
            segments=tuple(cutter.segments),
            whole=lambda given: {ANSWER: model(given)},
            draw=draw,
            lengths=text_lengths(positions),
            files=files,
            buckets={**text_buckets(positions), **region_buckets()},
        )


def _model(config: LxmertConfig, weights: Weights) -> LxmertModel:
    return LxmertModel(config, required(weights, "answer_head.logit_fc.3.weight", 2).shape[0])


def _lanes(config: LxmertConfig, classes: int) -> tuple[LaneSpec, LaneSpec, LaneSpec]:
    width = config.hidden_size

    def encoder(name: str, tokens: str, stem: str, layers: int) -> LaneSpec:
        return LaneSpec(
            name=name,
            state={"hidden": carried(tokens, width), "mask": constant(tokens)},
            entry=f"{stem}.embed",
            layers=layer_names(stem, layers),
            scores=("cosine",),
            compare={"hidden": "mask"},
        )

    fusion = LaneSpec(
        name=FUSION,
        join=(IMAGE, TEXT),
        state={
            "language": carried(WORDS, width),
            "vision": carried(REGIONS, width),
            "language_mask": constant(WORDS),
            "vision_mask": constant(REGIONS),
        },
        entry="fusion.join",
        layers=layer_names("fusion", config.x_layers),
        heads=dict.fromkeys(range(1, config.x_layers + 1), ANSWER),
        classes=classes,
        scores=("cosine",),
        compare={"language": "language_mask", "vision": "vision_mask"},
    )
    image = encoder(IMAGE, REGIONS, "vision", config.r_layers)
    return image, encoder(TEXT, WORDS, "language", config.l_layers), fusion


def _cut(cutter: Cutter, model: LxmertModel, lanes: tuple[LaneSpec, LaneSpec, LaneSpec]) -> None:
    image, text, fusion = lanes
    encoder = model.lxmert.encoder
    regions = ["input.region_features", "input.region_boxes", "input.region_mask"]
    words = ["input.input_ids", "input.attention_mask"]
    cutter.lane(image, RegionEntry(model), regions)
    cutter.layers(image, list(encoder.r_layers), ["hidden", "mask"])
    cutter.lane(text, WordEntry(model), words)
    cutter.layers(text, list(encoder.layer), ["hidden", "mask"])
    joined = ["text.hidden", "image.hidden", "text.mask", "image.mask"]
    cutter.lane(fusion, Join(), joined)
    cutter.layers(fusion, list(encoder.x_layers), list(BOTH))
    cutter.head(fusion, ANSWER, AnswerHead(model), ["language"])


def _draw(config: LxmertConfig, generator: torch.Generator, batch: int, length: int) -> TensorMap:
    sizes = (EXAMPLE_REGIONS, config.visual_feat_dim, config.visual_pos_dim)
    return {
        **draw_text(generator, (batch,), length, config.vocab_size),
        **draw_regions(generator, (batch,), *sizes),
    }
