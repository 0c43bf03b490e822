"""The encoder's segments and lanes: an entry for each modality, and layers that both walk."""

from collections.abc import Mapping

from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.engine.bundle.tensors import StateSpec, TensorSpec
from exeunt.export.families.ofa.config import OfaConfig
from exeunt.export.families.ofa.encoder import LaneTokens
from exeunt.export.families.ofa.model import OfaModel
from exeunt.export.families.ofa.segments import EncoderStep, ImageEntry, TextEntry
from exeunt.export.plan import BATCH, Port, SegmentPlan, TensorMap

IMAGE, TEXT = "image", "text"


def encoder_lanes(config: OfaConfig) -> tuple[LaneSpec, LaneSpec]:
    """Return the image and the text lane, whose layers are the same segments."""

    def lane(name: str, tokens: int | str) -> LaneSpec:
        return LaneSpec(
            name=name,
            state=_state(config, tokens),
            entry=f"{name}.embed",
            layers=tuple(_layer(layer) for layer in range(1, config.encoder_layers + 1)),
            scores=("cosine",),
            compare={"hidden": "mask"},
        )

    return lane(IMAGE, config.image_tokens), lane(TEXT, "T")


def encoder_segments(
    model: OfaModel, specs: Mapping[str, TensorSpec], raw: TensorMap, example: LaneTokens
) -> tuple[SegmentPlan, ...]:
    """Return the entries and the layers.

    Args:
        model: in eval mode.
        specs: the raw tensors of one sample.
        raw: some of them, to trace the entries with.
        example: tokens to trace the layers with.
    """
    return (*_entries(model, specs, raw), *_layers(model, example))


def _layer(layer: int) -> str:
    return f"enc.{layer:02d}"


def _state(config: OfaConfig, tokens: int | str) -> dict[str, StateSpec]:
    width = config.hidden
    return {
        "hidden": StateSpec(role="carried", dtype="float32", shape=(tokens, width)),
        "mask": StateSpec(role="constant", dtype="float32", shape=(tokens,)),
        "pos_query": StateSpec(role="constant", dtype="float32", shape=(tokens, width)),
        "pos_key": StateSpec(role="constant", dtype="float32", shape=(tokens, width)),
        "query_place": StateSpec(role="constant", dtype="int64", shape=(tokens,)),
        "key_place": StateSpec(role="constant", dtype="int64", shape=(tokens,)),
    }


def _ports(config: OfaConfig, tokens: int | str) -> tuple[Port, ...]:
    state = _state(config, tokens)
    assert tuple(state) == LaneTokens._fields, "a lane's states are the fields of its tokens"
    return tuple(Port(name, name, (BATCH, *spec.shape)) for name, spec in state.items())


def _entries(
    model: OfaModel, specs: Mapping[str, TensorSpec], raw: TensorMap
) -> tuple[SegmentPlan, ...]:
    config = model.config
    ports = {
        name: Port(name, f"input.{name}", (BATCH, *spec.shape)) for name, spec in specs.items()
    }
    texts = ("src_tokens", "attention_mask")
    return (
        SegmentPlan(
            "image.embed",
            "entry",
            ImageEntry(model.encoder),
            (ports["patch_images"],),
            _ports(config, config.image_tokens),
            (raw["patch_images"],),
        ),
        SegmentPlan(
            "text.embed",
            "entry",
            TextEntry(model.encoder),
            tuple(ports[name] for name in texts),
            _ports(config, "T"),
            tuple(raw[name] for name in texts),
        ),
    )


def _layers(model: OfaModel, example: LaneTokens) -> tuple[SegmentPlan, ...]:
    config = model.config
    written = Port("next_hidden", "hidden", (BATCH, "T", config.hidden))
    return tuple(
        SegmentPlan(
            _layer(layer),
            "layer",
            EncoderStep(model.encoder, layer),
            _ports(config, "T"),
            (written,),
            tuple(tensor.contiguous() for tensor in example),
        )
        for layer in range(1, config.encoder_layers + 1)
    )
