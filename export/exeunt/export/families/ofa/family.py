"""Cutting an OFA checkpoint: `image` and `text` lanes with tied layers, and a `decoder` lane."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from exeunt.engine.bundle.inputs import ImageSpec, InputsSpec, TextSpec
from exeunt.engine.bundle.manifest import BucketSpec, TaskSpec
from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import invalid, read_json
from exeunt.export.families.ofa import plan as parts
from exeunt.export.families.ofa.checkpoint import CONFIG_FILE, load_model, read_options
from exeunt.export.families.ofa.config import PAD, OfaConfig
from exeunt.export.families.ofa.decoder_plan import HEAD
from exeunt.export.families.options import (
    DEFAULTS,
    TOKENIZER_FILE,
    SourceOptions,
    check_options,
    tokenizer_file,
)
from exeunt.export.parity.loop import loop_tokens
from exeunt.export.plan import BundlePlan, TensorMap

CFG_FILE = "cfg.json"  # the `cfg` of an official checkpoint, beside it
PREPROCESSOR_FILE = "preprocessor.json"
# Texts padded to a multiple of eight share batches, in the decoder too, whose rows attend to them;
# finer multiples pad less, but leave more batches half empty.
PAD_TO_MULTIPLE = 8


class _Preprocessor(ImageSpec):
    """`preprocessor.json`: the engine's own settings, and the colour mode, which is always RGB."""

    mode: Literal["RGB"] = "RGB"


class OfaFamily:
    """OFA and MuE; see `exeunt.export.families.ofa.checkpoint` for the formats."""

    name = "ofa"
    keys = (
        "encoder.layers.*.self_attn.q_proj.weight",
        "encoder.embed_images.conv1.weight",
        "encoder.image_rel_pos_table_list.*.weight",
        "decoder.layers.*.encoder_attn.q_proj.weight",
    )

    def detect(self, source: Path) -> bool:
        """Return whether `config.json`, or the `cfg.json` of an official one, speaks of OFA."""
        config = _peek(source / CONFIG_FILE)
        if config.get("family") == self.name:
            return True
        model = _peek(source / CFG_FILE).get("model")
        return isinstance(model, dict) and str(model.get("arch", "")).startswith(self.name)

    def describe(self, source: Path, options: SourceOptions = DEFAULTS) -> BundlePlan:
        """Load the checkpoint and cut it; see `Family.describe`."""
        check_options(self.name, options, takes=("tokenizer",))
        model, told = load_model(source), read_options(source)
        config = model.config
        tokenizer = tokenizer_file(options, config.vocab, spare=config.vocab) or _own(source)
        lanes = parts.lanes(config)
        loop = lanes[-1].loop
        assert loop is not None, "the decoder loops"

        def whole(tensors: Mapping[str, Tensor]) -> TensorMap:
            batch = tensors["src_tokens"].shape[0]
            tokens = torch.tensor(loop_tokens(loop, config.vocab)).expand(batch, -1)
            logits = model(*(tensors[name] for name in parts.tensors(config)), tokens)
            return {HEAD: logits[-1][:, -1]}

        def draw(generator: torch.Generator, batch: int, length: int) -> TensorMap:
            return parts.draw(config, generator, batch, length)

        longest = config.max_source_length
        return BundlePlan(
            family=self.name,
            name=self.name,
            tasks=tuple(TaskSpec(**task.model_dump()) for task in told.tasks),
            tensors=parts.tensors(config),
            inputs=_inputs(source, config, tokenizer),
            lanes=lanes,
            segments=parts.segments(model),
            whole=whole,
            draw=draw,
            lengths=tuple(sorted({1, min(PAD_TO_MULTIPLE, longest), min(20, longest)})),
            files={TOKENIZER_FILE: tokenizer} if tokenizer else {},
            buckets={"T": BucketSpec(multiple=PAD_TO_MULTIPLE, most=longest)},
        )


def _peek(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _own(source: Path) -> Path | None:
    file = source / TOKENIZER_FILE
    return file if file.is_file() else None


def _inputs(source: Path, config: OfaConfig, tokenizer: Path | None) -> InputsSpec:
    """Return how image and text become tensors; without a tokenizer only raw tensors are taken."""
    if tokenizer is None:
        return InputsSpec()
    return InputsSpec(
        image=_image(source / PREPROCESSOR_FILE, config),
        text=TextSpec(
            tokenizer=TOKENIZER_FILE,
            ids="src_tokens",
            mask="attention_mask",
            max_tokens=config.max_source_length,
            pad_to_multiple=PAD_TO_MULTIPLE,
            pad_id=PAD,
        ),
    )


def _image(file: Path, config: OfaConfig) -> ImageSpec:
    """Return the settings in `preprocessor.json`, or those of the checkpoint's config."""
    size = (config.image_size, config.image_size)
    if not file.is_file():
        mean, std = config.image_mean, config.image_std
        return ImageSpec(tensor="patch_images", size=size, mean=mean, std=std)
    try:
        settings = _Preprocessor.model_validate({"tensor": "patch_images", **read_json(file)})
    except ValidationError as error:
        raise invalid(file, error) from None
    except TypeError:
        raise ExportError(f"{file} is not valid: expected a JSON object") from None
    if settings.size != size or settings.tensor != "patch_images":
        raise ExportError(
            f"{file} makes {settings.tensor!r} of {settings.size}, the model takes 'patch_images'"
            f" of {size}"
        )
    return ImageSpec(**settings.model_dump(exclude={"mode"}))
