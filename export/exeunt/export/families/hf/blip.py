"""Cutting a BLIP checkpoint for retrieval: does a text fit an image? Two tasks, one image lane.

`itm`: a fusion lane, BERT's layers with cross-attention to the image, and a head of two logits.
`itc`: a text lane, the same layers without cross-attention, and the cosine of both embeddings.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from exeunt.engine.bundle.inputs import InputsSpec
from exeunt.engine.bundle.manifest import LaneSpec, TaskSpec
from exeunt.engine.bundle.tensors import TensorSpec
from exeunt.export.families.hf.config import (
    find_labels,
    find_task,
    find_tokenizer,
    load,
    peek,
    read_config,
)
from exeunt.export.families.hf.cutting import Cutter, carried, constant, layer_names
from exeunt.export.families.hf.images import resized_image
from exeunt.export.families.hf.inputs import (
    EXAMPLE_BATCH,
    EXAMPLE_WORDS,
    text_buckets,
    text_lengths,
    text_spec,
)
from exeunt.export.families.hf.matching import (
    IMAGE,
    MATCH,
    SIMILARITY,
    TEXT,
    Similarity,
    match_lane,
)
from exeunt.export.families.hf.models.blip import (
    ITC,
    ITM,
    BlipConfig,
    BlipModel,
    FusionJoin,
    MatchHead,
    MatchJoin,
    TextEntry,
)
from exeunt.export.families.options import (
    DEFAULTS,
    TOKENIZER_FILE,
    SourceOptions,
    check_options,
    chosen_task,
)
from exeunt.export.families.regions import WORDS, draw_text, text_tensors
from exeunt.export.plan import BundlePlan, TensorMap

TASKS = {"BlipForImageTextRetrieval": ITM}
BUFFERS = ("text_encoder.embeddings.position_ids",)  # of older files
FUSION, ANSWER = "fusion", "answer"
HEADS = {ITM: ANSWER, ITC: SIMILARITY}
# Of images, where the checkpoint does not say: those of BLIP's processor.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class BlipFamily:
    """BLIP; a bundle answers both tasks, or the one that was asked for."""

    name = "blip"
    keys = ("itm_head.weight", "text_encoder.encoder.layer.0.crossattention.self.query.weight")

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` says that it is a BLIP model."""
        return peek(source).get("model_type") == self.name

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("task", "labels", "tokenizer"))
        config = read_config(source, BlipConfig)
        find_task(source, config, TASKS)
        asked = options.task and chosen_task(self.name, options, (ITM, ITC))
        tasks = (asked,) if asked else (ITM, ITC)
        model = load(source, lambda _: BlipModel(config), unused=BUFFERS)

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return _draw(config, generator, batch, length)

        def whole(given: Mapping[str, Tensor]) -> TensorMap:
            return {HEADS[task]: model(given, task) for task in tasks}

        raw = draw(torch.Generator().manual_seed(0), EXAMPLE_BATCH, EXAMPLE_WORDS)
        cutter = Cutter(_tensors(config), raw)
        lanes = _cut(cutter, config, model, tasks)
        labels = find_labels(source, config, options, 2)
        answers = {
            ITM: TaskSpec(name=ITM, kind="classification", lane=FUSION, labels=labels),
            ITC: TaskSpec(name=ITC, kind="matching", lane=MATCH),
        }
        files = find_tokenizer(source, options, config.text_config.vocab_size)
        positions = config.text_config.max_position_embeddings
        return BundlePlan(
            family=self.name,
            name=self.name,
            tasks=tuple(answers[task] for task in tasks),
            tensors=_tensors(config),
            inputs=_inputs(source, config, files),
            lanes=lanes,
            segments=tuple(cutter.segments),
            whole=whole,
            draw=draw,
            lengths=text_lengths(positions),
            files=files,
            buckets=text_buckets(positions),
        )


def _inputs(source: Path, config: BlipConfig, files: Mapping[str, Path]) -> InputsSpec:
    """Return how image and text become tensors; without a tokenizer only raw tensors are taken."""
    if TOKENIZER_FILE not in files:
        return InputsSpec()
    image = resized_image(source, config.vision_config.image_size, mean=MEAN, std=STD)
    return InputsSpec(image=image, text=text_spec(config.text_config.max_position_embeddings))


def _tensors(config: BlipConfig) -> dict[str, TensorSpec]:
    size = config.vision_config.image_size
    return {"pixel_values": TensorSpec(dtype="float32", shape=(3, size, size)), **text_tensors()}


def _cut(
    cutter: Cutter, config: BlipConfig, model: BlipModel, tasks: tuple[str, ...]
) -> tuple[LaneSpec, ...]:
    """Add the segments of the tasks; return their lanes."""
    vision, width = config.vision_config, config.text_config.hidden_size
    words = ["input.input_ids", "input.attention_mask"]
    image = LaneSpec(
        name=IMAGE,
        state={"hidden": carried(vision.tokens, vision.hidden_size)},
        entry="vision.embed",
        layers=layer_names("vision", vision.num_hidden_layers),
        scores=("cosine",),
        compare={"hidden": None},
    )
    cutter.lane(image, model.vision_model.embeddings, ["input.pixel_values"])
    cutter.layers(image, model.image_layers, ["hidden"])
    lanes = [image]
    layers = config.text_config.num_hidden_layers
    state = {"hidden": carried(WORDS, width), "mask": constant(WORDS)}
    if ITM in tasks:
        fusion = LaneSpec(
            name=FUSION,
            join=(IMAGE,),
            state={**state, "context": constant(vision.tokens, vision.hidden_size)},
            entry="fusion.join",
            layers=layer_names("fusion", layers),
            heads=dict.fromkeys(range(1, layers + 1), ANSWER),
            classes=2,
            scores=("cosine",),
            compare={"hidden": "mask"},
        )
        cutter.lane(fusion, FusionJoin(model), [*words, "image.hidden"])
        cutter.layers(fusion, model.fusion_layers, ["hidden", "mask", "context"])
        cutter.head(fusion, ANSWER, MatchHead(model), ["hidden"])
        lanes.append(fusion)
    if ITC in tasks:
        text = LaneSpec(
            name=TEXT,
            state=state,
            entry="text.embed",
            layers=layer_names("text", layers),
            scores=("cosine",),
            compare={"hidden": "mask"},
        )
        match = match_lane(config.image_text_hidden_size)
        cutter.lane(text, TextEntry(model), words)
        cutter.layers(text, model.text_layers, ["hidden", "mask"])
        cutter.lane(match, MatchJoin(model), ["image.hidden", "text.hidden"])
        cutter.head(match, SIMILARITY, Similarity(), list(match.state))
        lanes += [text, match]
    return tuple(lanes)


def _draw(config: BlipConfig, generator: torch.Generator, batch: int, length: int) -> TensorMap:
    size = config.vision_config.image_size
    words = draw_text(generator, (batch,), length, config.text_config.vocab_size)
    return {"pixel_values": torch.randn(batch, 3, size, size, generator=generator), **words}
