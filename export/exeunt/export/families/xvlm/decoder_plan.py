"""The decoder's lane and segments: it joins the fusion lane and is walked once a token."""

from exeunt.engine.bundle.manifest import CacheSpec, LaneSpec, LoopSpec
from exeunt.engine.bundle.tensors import StateSpec
from exeunt.export.families.hf.cutting import carried, constant, layer_names
from exeunt.export.families.regions import WORDS
from exeunt.export.families.xvlm.cutting import Segments
from exeunt.export.families.xvlm.decoder import (
    CrossKeys,
    DecoderEntry,
    DecoderStep,
    Logits,
    Propagate,
    TextDecoder,
    own_width,
)
from exeunt.export.families.xvlm.lanes import FUSION
from exeunt.export.families.xvlm.model import XvlmModel

DECODER, HEAD = "decoder", "dec.logits"
MAX_STEPS = 16  # tokens of an answer at most, the end token included


def decoder_lane(model: XvlmModel, loop: LoopSpec) -> LaneSpec:
    """Return the decoder's lane."""
    sizes, layers = model.config.text, model.text_decoder.layers
    width = _cache_width(model.text_decoder)
    numbers = range(1, len(layers) + 1)
    state: dict[str, StateSpec] = {
        "hidden": carried(1, sizes.hidden_size),
        "context_mask": constant(WORDS),
    }
    for number, layer in zip(numbers, layers, strict=True):
        inner = layer.crossattention.self
        state |= {name: constant(WORDS, inner.key.out_features) for name in _cross(number)}
    cache = StateSpec(role="cache", dtype="float32", shape=(loop.max_steps, width))
    state |= {name: cache for number in numbers for name in _cache(number)}
    # Pruned layers have fewer heads of their own: none stands in for another's context.
    alike = len({state[name].shape for number in numbers for name in _cross(number)}) == 1
    names = layer_names("dec", len(layers))
    return LaneSpec(
        name=DECODER,
        join=(FUSION,),
        state=state,
        setup=("cross.kv",),
        entry="dec.embed",
        layers=names,
        heads=dict.fromkeys(numbers, HEAD),
        final_head=HEAD,
        classes=sizes.vocab_size,
        caches=tuple(
            CacheSpec(appended=_cache(number), context=_cross(number) if alike else ())
            for number in numbers
        ),
        propagate={number: f"{names[number - 1]}.propagate" for number in numbers[1:]},
        scores=("cosine", "entropy", "confidence", "margin"),
        compare={"hidden": None},
        loop=loop,
    )


def cut_decoder(segments: Segments, model: XvlmModel, lane: LaneSpec) -> None:
    """Add the segments of the decoder's lane."""
    decoder, loop = model.text_decoder, lane.loop
    assert loop is not None, "the decoder loops"
    width = _cache_width(decoder)
    numbers = range(1, lane.depth + 1)
    kept = ["context_mask", *(name for number in numbers for name in _cross(number))]
    question = [f"{FUSION}.hidden", f"{FUSION}.mask"]
    segments.add(DECODER, "cross.kv", "cross_kv", CrossKeys(decoder), question, kept)
    token = ["loop.token", "loop.step"]
    segments.add(DECODER, "dec.embed", "entry", DecoderEntry(decoder), token, ["hidden"])
    for number, layer in zip(numbers, decoder.layers, strict=True):
        module = DecoderStep(layer, loop.max_steps, width)
        reads = ["hidden", *_cache(number), "loop.cached", *_cross(number), "context_mask"]
        writes = ["hidden", *_cache(number)]
        segments.add(DECODER, lane.layers[number - 1], "layer", module, reads, writes)
    for number, name in lane.propagate.items():
        module_ = Propagate(decoder.layers[number - 1], width)
        segments.add(DECODER, name, "propagate_kv", module_, ["hidden"], _cache(number))
    segments.add(DECODER, HEAD, "head", Logits(decoder), ["hidden"], ["head.logits"])


def _cache_width(decoder: TextDecoder) -> int:
    """Return the widest layer's; caches are alike, so that one may stand in for another."""
    return max(own_width(layer) for layer in decoder.layers)


def _cache(layer: int) -> tuple[str, str]:
    return f"self_k_{layer}", f"self_v_{layer}"


def _cross(layer: int) -> tuple[str, str]:
    return f"cross_k_{layer}", f"cross_v_{layer}"
