"""Cutting a ViLT checkpoint: words and image patches in one stream of pre-LN layers.

`ViltForQuestionAnswering` answers one image; `ViltForImagesAndTextClassification` (NLVR2) several,
each in a row with the same text, and its head reads the rows' pooled tokens side by side.

The official class draws the patches that it keeps at random. Here all are kept, in their natural
order: what comes out is the same, since attention does not see the order.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from exeunt.engine.bundle.inputs import InputsSpec
from exeunt.engine.bundle.manifest import BucketSpec, TaskSpec
from exeunt.engine.bundle.tensors import TensorSpec
from exeunt.export.errors import ExportError
from exeunt.export.families.hf.config import (
    CONFIG_FILE,
    find_labels,
    find_task,
    load,
    peek,
    read_config,
)
from exeunt.export.families.hf.inputs import (
    EXAMPLE_BATCH,
    EXAMPLE_WORDS,
    text_buckets,
    text_lengths,
)
from exeunt.export.families.hf.models.vilt import ViltConfig, ViltHead, ViltModel
from exeunt.export.families.joint import LANE, JointModel
from exeunt.export.families.options import DEFAULTS, SourceOptions, check_options, chosen_task
from exeunt.export.families.regions import draw_text, text_tensors
from exeunt.export.families.state_dict import required
from exeunt.export.families.weights import Weights
from exeunt.export.plan import BundlePlan, TensorMap

TASKS = {"ViltForQuestionAnswering": "vqa", "ViltForImagesAndTextClassification": "nlvr2"}
CLASSIFIER = "classifier.3.weight"  # its last linear map, [classes, width]
BUFFERS = ("vilt.embeddings.text_embeddings.position_ids",)  # of older files
MAX_SIDE = 1024  # pixels; ViLT's images have up to 640
EXAMPLE_GRID = (2, 5)  # patches


class ViltFamily:
    """ViLT; a bundle takes raw tensors, since an image keeps its own height and width."""

    name = "vilt"
    keys = ("vilt.embeddings.cls_token", "vilt.encoder.layer.0.attention.attention.query.weight")

    def detect(self, source: Path) -> bool:
        """Return whether `config.json` says that it is a ViLT model."""
        return peek(source).get("model_type") == self.name

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("task", "labels"))
        config = read_config(source, ViltConfig)
        task = chosen_task(self.name, options, [find_task(source, config, TASKS)])
        images = _images(source, config) if task == "nlvr2" else 1
        model = load(source, lambda weights: _model(config, images, weights), unused=BUFFERS)
        classes = model.classes
        joint = JointModel(
            tensors=_tensors(images),
            entry=model.vilt.embeddings,
            layers=model.layers,
            width=config.hidden_size,
            classes=classes,
            final_head=ViltHead(model),
            rows=images,
        )
        raw = _draw(config, images, torch.Generator().manual_seed(0), EXAMPLE_BATCH, EXAMPLE_WORDS)

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return _draw(config, images, generator, batch, length)

        labels = find_labels(source, config, options, classes)
        side = BucketSpec(multiple=config.patch_size, most=max(MAX_SIDE, config.image_size))
        return BundlePlan(
            family=self.name,
            name=f"{self.name}-{task}",
            tasks=(TaskSpec(name=task, kind="classification", lane=LANE, labels=labels),),
            tensors=dict(joint.tensors),
            inputs=InputsSpec(),
            lanes=(joint.lane(),),
            segments=joint.segments(raw),
            whole=joint.whole,
            draw=draw,
            lengths=text_lengths(config.max_position_embeddings),
            buckets={**text_buckets(config.max_position_embeddings), "H": side, "W": side},
        )


def _images(source: Path, config: ViltConfig) -> int:
    if config.num_images < 2 or config.modality_type_vocab_size <= config.num_images:
        raise ExportError(
            f"{source / CONFIG_FILE} says num_images {config.num_images} and"
            f" modality_type_vocab_size {config.modality_type_vocab_size}: several images need a"
            " type each, beside that of the text"
        )
    return config.num_images


def _model(config: ViltConfig, images: int, weights: Weights) -> ViltModel:
    classes, inner = required(weights, CLASSIFIER, 2).shape
    return ViltModel(config, images, classes, inner)


def _tensors(images: int) -> Mapping[str, TensorSpec]:
    per = "row" if images > 1 else "sample"
    own = {
        "pixel_values": TensorSpec(dtype="float32", shape=(3, "H", "W"), per=per),
        "pixel_mask": TensorSpec(dtype="int64", shape=("H", "W"), per=per),
    }
    return {**text_tensors(), **own}


def _draw(
    config: ViltConfig, images: int, generator: torch.Generator, batch: int, length: int
) -> TensorMap:
    """Return random raw tensors: texts of at most `length` tokens, images that differ in size."""
    shape = (batch, images) if images > 1 else (batch,)
    height, width = (patches * config.patch_size for patches in EXAMPLE_GRID)
    text = draw_text(generator, (batch,), length, config.vocab_size)
    seen = torch.ones(*shape, height, width, dtype=torch.int64)
    seen[1:, ..., config.patch_size :, :] = 0
    seen[2:, ..., 2 * config.patch_size :] = 0
    pixels = torch.rand(*shape, 3, height, width, generator=generator) * 2 - 1
    return {**text, "pixel_values": pixels * seen.unsqueeze(-3), "pixel_mask": seen}
