"""The model as a plan: its raw tensors, lanes and segments."""

import torch

from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.engine.bundle.tensors import TensorSpec
from exeunt.export.families.ofa.config import EOS, PAD, OfaConfig
from exeunt.export.families.ofa.decoder_plan import context_segments, decoder_lane, decoder_segments
from exeunt.export.families.ofa.encoder_plan import encoder_lanes, encoder_segments
from exeunt.export.families.ofa.model import OfaModel
from exeunt.export.plan import SegmentPlan, TensorMap

# Sizes to trace with: every one different, so that the exporter does not tie two axes together.
EXAMPLE_BATCH, EXAMPLE_TOKENS = 3, 7


def tensors(config: OfaConfig) -> dict[str, TensorSpec]:
    """Return the raw tensors of one sample."""
    size = config.image_size
    return {
        "patch_images": TensorSpec(dtype="float32", shape=(3, size, size)),
        "src_tokens": TensorSpec(dtype="int64", shape=("T",)),
        "attention_mask": TensorSpec(dtype="int64", shape=("T",)),
    }


def draw(config: OfaConfig, generator: torch.Generator, batch: int, length: int) -> TensorMap:
    """Return random raw tensors of `batch` samples with `length` tokens, some of them padding."""
    size = config.image_size
    valid = torch.randint(1, length + 1, (batch, 1), generator=generator)
    mask = (torch.arange(length)[None, :] < valid).to(torch.int64)
    tokens = torch.randint(EOS, config.vocab, (batch, length), generator=generator)
    return {
        "patch_images": torch.randn(batch, 3, size, size, generator=generator),
        "src_tokens": torch.where(mask == 1, tokens, PAD),
        "attention_mask": mask,
    }


def lanes(config: OfaConfig) -> tuple[LaneSpec, ...]:
    """Return the image and the text lane, and the decoder, which comes last."""
    return (*encoder_lanes(config), decoder_lane(config))


def segments(model: OfaModel) -> tuple[SegmentPlan, ...]:
    """Return every segment of a model in eval mode, with inputs to trace it with."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    length = min(EXAMPLE_TOKENS, config.max_source_length)
    raw = draw(config, generator, EXAMPLE_BATCH, length)
    with torch.no_grad():
        image = model.encoder.embed_image(raw["patch_images"])
        text = model.encoder.embed_text(raw["src_tokens"], raw["attention_mask"])
        context = model.context(image.hidden, text.hidden, text.mask)
    return (
        *encoder_segments(model, tensors(config), raw, text),
        *context_segments(model, image, text, context.hidden),
        *decoder_segments(model, context.hidden, context.mask, generator),
    )
