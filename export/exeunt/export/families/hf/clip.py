"""Cutting a CLIP checkpoint: an image lane, a text lane, and their scaled cosine.

The text lane is causal and is read at its first end token. The answer is one logit: how well the
text fits the image.
"""

from pathlib import Path

import torch

from exeunt.engine.bundle.inputs import InputsSpec
from exeunt.engine.bundle.manifest import LaneSpec, TaskSpec
from exeunt.engine.bundle.tensors import TensorSpec
from exeunt.export.families.hf.config import (
    find_task,
    load,
    peek,
    read_config,
)
from exeunt.export.families.hf.cutting import Cutter, carried, constant, layer_names
from exeunt.export.families.hf.inputs import (
    EXAMPLE_BATCH,
    EXAMPLE_WORDS,
    text_buckets,
    text_lengths,
)
from exeunt.export.families.hf.matching import (
    IMAGE,
    MATCH,
    SIMILARITY,
    TEXT,
    Similarity,
    match_lane,
)
from exeunt.export.families.hf.models.clip import ClipConfig, ClipJoin, ClipModel
from exeunt.export.families.options import DEFAULTS, SourceOptions, check_options, chosen_task
from exeunt.export.families.regions import WORDS, draw_text, text_tensors
from exeunt.export.plan import BundlePlan, TensorMap

TASKS = {"CLIPModel": "match"}
BUFFERS = tuple(f"{tower}_model.embeddings.position_ids" for tower in ("text", "vision"))


class ClipFamily:
    """CLIP; a bundle takes raw tensors, since its images are cropped, which requests' are not."""

    name = "clip"
    keys = ("text_model.encoder.layers.0.self_attn.q_proj.weight", "visual_projection.weight")

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` says that it is a CLIP model."""
        return peek(source).get("model_type") == self.name

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("task",))
        config = read_config(source, ClipConfig)
        task = chosen_task(self.name, options, [find_task(source, config, TASKS)])
        model = load(source, lambda _: ClipModel(config), unused=BUFFERS)
        tensors = _tensors(config)

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return _draw(config, generator, batch, length)

        lanes = (*_lanes(config), match_lane(config.projection_dim))
        raw = draw(torch.Generator().manual_seed(0), EXAMPLE_BATCH, EXAMPLE_WORDS)
        cutter = Cutter(tensors, raw)
        _cut(cutter, model, lanes)
        positions = config.text_config.max_position_embeddings
        return BundlePlan(
            family=self.name,
            name=self.name,
            tasks=(TaskSpec(name=task, kind="matching", lane=MATCH),),
            tensors=tensors,
            inputs=InputsSpec(),
            lanes=lanes,
            segments=tuple(cutter.segments),
            whole=lambda given: {SIMILARITY: model(given)},
            draw=draw,
            lengths=text_lengths(positions),
            buckets=text_buckets(positions),
        )


def _tensors(config: ClipConfig) -> dict[str, TensorSpec]:
    size = config.vision_config.image_size
    return {"pixel_values": TensorSpec(dtype="float32", shape=(3, size, size)), **text_tensors()}


def _lanes(config: ClipConfig) -> tuple[LaneSpec, LaneSpec]:
    text, vision = config.text_config, config.vision_config
    patches = 1 + (vision.image_size // vision.patch_size) ** 2
    image = LaneSpec(
        name=IMAGE,
        state={"hidden": carried(patches, vision.hidden_size)},
        entry="vision.embed",
        layers=layer_names("vision", vision.num_hidden_layers),
        scores=("cosine",),
        compare={"hidden": None},
    )
    words = LaneSpec(
        name=TEXT,
        state={
            "hidden": carried(WORDS, text.hidden_size),
            "mask": constant(WORDS),
            "end": constant(WORDS),
        },
        entry="text.embed",
        layers=layer_names("text", text.num_hidden_layers),
        scores=("cosine",),
        compare={"hidden": "mask"},
    )
    return image, words


def _cut(cutter: Cutter, model: ClipModel, lanes: tuple[LaneSpec, ...]) -> None:
    image, text, match = lanes
    cutter.lane(image, model.vision_model, ["input.pixel_values"])
    cutter.layers(image, list(model.vision_model.encoder.layers), ["hidden"])
    cutter.lane(text, model.text_model, ["input.input_ids", "input.attention_mask"])
    cutter.layers(text, list(model.text_model.encoder.layers), ["hidden", "mask"])
    cutter.lane(match, ClipJoin(model), ["image.hidden", "text.hidden", "text.end"])
    cutter.head(match, SIMILARITY, Similarity(model.logit_scale), list(match.state))


def _draw(config: ClipConfig, generator: torch.Generator, batch: int, length: int) -> TensorMap:
    text, size = config.text_config, config.vision_config.image_size
    words = draw_text(generator, (batch,), length, text.vocab_size)
    return {"pixel_values": torch.randn(batch, 3, size, size, generator=generator), **words}
