"""Cutting a VisualBERT checkpoint: words and a detector's regions in one stream of BERT's layers.

`VisualBertForQuestionAnswering` answers from the token before the text's last, which held [MASK]
in training; `VisualBertForVisualReasoning` (NLVR2) from the pooled first token. NLVR2's regions are
those of both images in one row, and `visual_token_type_ids` says of which each is.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from exeunt.engine.bundle.inputs import InputsSpec
from exeunt.engine.bundle.manifest import LaneSpec, TaskSpec
from exeunt.engine.bundle.tensors import StateSpec, TensorSpec
from exeunt.export.families.hf.config import (
    find_labels,
    find_task,
    find_tokenizer,
    load,
    peek,
    read_config,
)
from exeunt.export.families.hf.cutting import Cutter, carried, constant
from exeunt.export.families.hf.inputs import (
    EXAMPLE_BATCH,
    EXAMPLE_REGIONS,
    EXAMPLE_WORDS,
    region_buckets,
    text_and_regions,
    text_buckets,
    text_lengths,
)
from exeunt.export.families.hf.models.visualbert import (
    QuestionEntry,
    QuestionHead,
    ReasoningEntry,
    ReasoningHead,
    VisualBertConfig,
    VisualBertModel,
)
from exeunt.export.families.joint import ENTRY, FINAL, LANE, layer_name
from exeunt.export.families.options import DEFAULTS, SourceOptions, check_options, chosen_task
from exeunt.export.families.regions import (
    REGIONS,
    draw_regions,
    draw_text,
    region_tensors,
    text_tensors,
)
from exeunt.export.families.state_dict import required
from exeunt.export.families.weights import Weights
from exeunt.export.plan import BundlePlan, TensorMap

TASKS = {"VisualBertForQuestionAnswering": "vqa", "VisualBertForVisualReasoning": "nlvr2"}
BUFFERS = ("visual_bert.embeddings.position_ids",)  # of older files
BOX_COLUMNS = 4  # the model reads no boxes; regions come with them all the same
TYPES = "visual_token_type_ids"


class VisualBertFamily:
    """VisualBERT; see `exeunt.export.families.hf.visualbert`."""

    name = "visualbert"
    keys = (
        "visual_bert.embeddings.visual_projection.weight",
        "visual_bert.encoder.layer.0.attention.self.query.weight",
    )

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` says that it is a VisualBERT model."""
        return peek(source).get("model_type") == "visual_bert"

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("task", "labels", "tokenizer"))
        config = read_config(source, VisualBertConfig)
        task = chosen_task(self.name, options, [find_task(source, config, TASKS)])
        model = load(source, lambda weights: _model(config, weights), unused=BUFFERS)
        classes = model.classes
        asks = task == "vqa"
        entry = QuestionEntry(model) if asks else ReasoningEntry(model)
        head = QuestionHead(model) if asks else ReasoningHead(model)
        tensors = {**text_tensors(), **region_tensors(config.visual_embedding_dim, BOX_COLUMNS)}
        tensors |= {} if asks else {TYPES: TensorSpec(dtype="int64", shape=(REGIONS,))}
        reads = [name for name in tensors if name != "region_boxes"]
        answers = ["hidden", "place"] if asks else ["hidden"]
        lane = _lane(config, classes, place=asks)

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return _draw(config, not asks, generator, batch, length)

        cutter = Cutter(
            tensors, draw(torch.Generator().manual_seed(0), EXAMPLE_BATCH, EXAMPLE_WORDS)
        )
        cutter.lane(lane, entry, [f"input.{name}" for name in reads])
        cutter.layers(lane, model.layers, ["hidden", "mask"])
        cutter.head(lane, FINAL, head, answers)

        def whole(given: Mapping[str, Tensor]) -> TensorMap:
            hidden, mask, *place = entry(*(given[name] for name in reads))
            for layer in model.layers:
                hidden = layer(hidden, mask)
            return {FINAL: head(hidden, *place)}

        files = find_tokenizer(source, options, config.vocab_size)
        positions, features = config.max_position_embeddings, config.visual_embedding_dim
        labels = find_labels(source, config, options, classes)
        return BundlePlan(
            family=self.name,
            name=f"{self.name}-{task}",
            tasks=(TaskSpec(name=task, kind="classification", lane=LANE, labels=labels),),
            tensors=tensors,
            inputs=text_and_regions(files, positions, features) if asks else InputsSpec(),
            lanes=(lane,),
            segments=tuple(cutter.segments),
            whole=whole,
            draw=draw,
            lengths=text_lengths(positions),
            files=files,
            buckets={**text_buckets(positions), **region_buckets()},
        )


def _model(config: VisualBertConfig, weights: Weights) -> VisualBertModel:
    return VisualBertModel(config, required(weights, "cls.weight", 2).shape[0])


def _lane(config: VisualBertConfig, classes: int, *, place: bool) -> LaneSpec:
    layers = range(1, config.num_hidden_layers + 1)
    state = {"hidden": carried("T", config.hidden_size), "mask": constant("T")}
    if place:
        state["place"] = StateSpec(role="constant", dtype="int64", shape=())
    return LaneSpec(
        name=LANE,
        state=state,
        entry=ENTRY,
        layers=tuple(layer_name(layer) for layer in layers),
        heads=dict.fromkeys(layers, FINAL),
        classes=classes,
        scores=("cosine",),
        compare={"hidden": "mask"},
    )


def _draw(
    config: VisualBertConfig, typed: bool, generator: torch.Generator, batch: int, length: int
) -> TensorMap:
    shape, width = (batch,), config.visual_embedding_dim
    raw = {
        **draw_text(generator, shape, length, config.vocab_size),
        **draw_regions(generator, shape, EXAMPLE_REGIONS, width, BOX_COLUMNS),
    }
    if typed:
        size = (batch, EXAMPLE_REGIONS)
        raw[TYPES] = torch.randint(0, config.type_vocab_size, size, generator=generator)
    return raw
