"""The decoder's segments and lane: what it joins, its layers, caches and their filling."""

from typing import cast

import torch
from torch import Tensor

from exeunt.engine.bundle.manifest import CacheSpec, LaneSpec, LoopSpec
from exeunt.engine.bundle.tensors import StateSpec
from exeunt.export.families.ofa.config import BOS, EOS, PAD, OfaConfig
from exeunt.export.families.ofa.decoder import DecoderLayer
from exeunt.export.families.ofa.encoder import LaneTokens
from exeunt.export.families.ofa.encoder_plan import IMAGE, TEXT
from exeunt.export.families.ofa.model import OfaModel
from exeunt.export.families.ofa.segments import (
    CrossKeys,
    DecoderEntry,
    DecoderStep,
    Join,
    Logits,
    Propagate,
)
from exeunt.export.plan import BATCH, Port, SegmentPlan

DECODER = "decoder"
HEAD = "dec.logits"


def decoder_lane(config: OfaConfig) -> LaneSpec:
    """Return the decoder lane, which joins the encoder's."""
    width, heads = config.hidden, config.heads
    layers = range(1, config.decoder_layers + 1)
    state = {
        "hidden": StateSpec(role="carried", dtype="float32", shape=(1, width)),
        "context": StateSpec(role="constant", dtype="float32", shape=("C", width)),
        "context_mask": StateSpec(role="constant", dtype="float32", shape=("C",)),
        # Written anew at every step, but not by the layers: a token that leaves early leaves the
        # carried states behind, and what fills the caches for it does not read this one.
        "cross_bias": StateSpec(role="constant", dtype="float32", shape=(heads, "C")),
    }
    for layer in layers:
        for name in _cross(layer):
            state[name] = StateSpec(role="constant", dtype="float32", shape=("C", width))
        for name in _cache(layer):
            shape = (config.max_steps, width)
            state[name] = StateSpec(role="cache", dtype="float32", shape=shape)
    return LaneSpec(
        name=DECODER,
        join=(IMAGE, TEXT),
        state=state,
        setup=("enc.norm",),
        entry="dec.embed",
        layers=tuple(_layer(layer) for layer in layers),
        heads=dict.fromkeys(layers, HEAD),
        final_head=HEAD,
        classes=config.vocab,
        caches=tuple(CacheSpec(appended=_cache(layer), context=_cross(layer)) for layer in layers),
        contexts={layer: _cross_keys(layer) for layer in layers},
        propagate={layer: _propagate(layer) for layer in layers[1:]},
        scores=("cosine", "entropy", "confidence", "margin"),
        compare={"hidden": None},
        loop=LoopSpec(
            start=BOS,
            eos=EOS,
            pad=PAD,
            max_steps=config.max_steps,
            never=(PAD,),
            min_tokens=config.min_tokens,
            closed=True,
        ),
    )


def context_segments(
    model: OfaModel, image: LaneTokens, text: LaneTokens, context: Tensor
) -> tuple[SegmentPlan, ...]:
    """Return what runs once a sample: the join, and for each layer its keys and values.

    Args:
        model: in eval mode.
        image: its tokens, to trace the join with.
        text: the same.
        context: f32[B, C, D], to trace the keys with.
    """
    config = model.config
    width, tokens = config.hidden, config.image_tokens
    joined = Port("context", "context", (BATCH, "C", width))
    return (
        SegmentPlan(
            "enc.norm",
            "join",
            Join(model.encoder),
            (
                Port("image_hidden", f"{IMAGE}.hidden", (BATCH, tokens, width)),
                Port("image_mask", f"{IMAGE}.mask", (BATCH, tokens)),
                Port("text_hidden", f"{TEXT}.hidden", (BATCH, "T", width)),
                Port("text_mask", f"{TEXT}.mask", (BATCH, "T")),
            ),
            (joined, Port("context_mask", "context_mask", (BATCH, "C"))),
            (image.hidden, image.mask, text.hidden, text.mask),
        ),
        *(
            SegmentPlan(
                _cross_keys(layer),
                "cross_kv",
                CrossKeys(cast(DecoderLayer, model.decoder.layers[layer - 1])),
                (joined,),
                tuple(Port(name, name, (BATCH, "C", width)) for name in _cross(layer)),
                (context,),
            )
            for layer in range(1, config.decoder_layers + 1)
        ),
    )


def decoder_segments(
    model: OfaModel, context: Tensor, mask: Tensor, generator: torch.Generator
) -> tuple[SegmentPlan, ...]:
    """Return what runs for every token.

    Args:
        model: in eval mode.
        context: f32[B, C, D], to trace with.
        mask: f32[B, C], the same.
        generator: of the other examples.
    """
    config, batch = model.config, context.shape[0]
    hidden = torch.randn(batch, 1, config.hidden, generator=generator)
    token = torch.randint(config.vocab, (batch, 1), generator=generator)
    step = torch.randint(config.max_steps, (batch,), generator=generator)
    state = Port("hidden", "hidden", (BATCH, 1, config.hidden))
    steps = Port("step", "loop.step", (BATCH,))
    bias = Port("cross_bias", "cross_bias", (BATCH, config.heads, "C"))
    entry = SegmentPlan(
        "dec.embed",
        "entry",
        DecoderEntry(model),
        (
            Port("token", "loop.token", (BATCH, 1)),
            steps,
            Port("context_mask", "context_mask", (BATCH, "C")),
        ),
        (state, bias),
        (token, step, mask),
    )
    layers = [
        _step(model, layer, (hidden, step, context), (state, steps, bias))
        for layer in range(1, config.decoder_layers + 1)
    ]
    propagate = [
        SegmentPlan(
            _propagate(layer),
            "propagate_kv",
            Propagate(cast(DecoderLayer, model.decoder.layers[layer - 1])),
            (state,),
            tuple(Port(name, name, (BATCH, config.hidden)) for name in _cache(layer)),
            (hidden,),
        )
        for layer in range(2, config.decoder_layers + 1)
    ]
    logits = Port("logits", "head.logits", (BATCH, config.vocab))
    head = SegmentPlan(HEAD, "head", Logits(model.decoder), (state,), (logits,), (hidden,))
    return (entry, *layers, *propagate, head)


def _step(
    model: OfaModel,
    layer: int,
    examples: tuple[Tensor, Tensor, Tensor],
    ports: tuple[Port, Port, Port],
) -> SegmentPlan:
    config = model.config
    hidden, step, context = examples
    batch = context.shape[0]
    state, steps, bias = ports
    width, heads = config.hidden, config.heads
    cache = torch.zeros(batch, config.max_steps, width)
    reads = (
        state,
        *(Port(name, name, (BATCH, config.max_steps, width)) for name in _cache(layer)),
        Port("cached", "loop.cached", (BATCH,)),
        steps,
        *(Port(name, name, (BATCH, "C", width)) for name in _cross(layer)),
        bias,
    )
    writes = (
        Port("next_hidden", "hidden", state.axes),
        *(Port(f"own_{name}", name, (BATCH, width)) for name in _cache(layer)),
    )
    cross_bias = torch.zeros(batch, heads, context.shape[1])
    module = DecoderStep(model.decoder, layer)
    # Each a tensor of its own: the exporter takes one given twice for one input.
    given = (hidden, cache, cache.clone(), step // 2, step, context, context.clone(), cross_bias)
    return SegmentPlan(_layer(layer), "layer", module, reads, writes, given)


def _layer(layer: int) -> str:
    return f"dec.{layer:02d}"


def _cache(layer: int) -> tuple[str, str]:
    return f"self_k_{layer}", f"self_v_{layer}"


def _cross(layer: int) -> tuple[str, str]:
    return f"cross_k_{layer}", f"cross_v_{layer}"


def _cross_keys(layer: int) -> str:
    return f"dec.{layer:02d}.cross_kv"


def _propagate(layer: int) -> str:
    return f"dec.{layer:02d}.propagate"
