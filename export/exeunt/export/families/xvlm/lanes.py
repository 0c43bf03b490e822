"""The encoders' lanes and segments: an image and a text side by side, and what joins them."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.export.families.hf.cutting import carried, constant, layer_names
from exeunt.export.families.hf.matching import (
    IMAGE,
    MATCH,
    SIMILARITY,
    TEXT,
    Similarity,
    match_lane,
)
from exeunt.export.families.regions import WORDS
from exeunt.export.families.xvlm.cutting import Segments
from exeunt.export.families.xvlm.model import ITC, ITM, NLVR2, Embeds, XvlmModel

FUSION, ANSWER = "fusion", "answer"


class TextEntry(nn.Module):
    """A text's embedding."""

    def __init__(self, model: XvlmModel) -> None:
        super().__init__()
        self.embeddings = model.text_encoder.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state f32[B, S, D] and its mask f32[B, S] of two i64[B, S]."""
        return self.embeddings(input_ids), attention_mask.to(torch.float32)


class FusionJoin(nn.Module):
    """A text beside the image that it looks at."""

    def __init__(self, model: XvlmModel) -> None:
        super().__init__()
        self.post_layernorm = model.vision_encoder.post_layernorm

    def forward(self, text: Tensor, mask: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return f32[B, S, D] and f32[B, S], copied, and the context f32[B, P, C]."""
        return text.clone(), mask.clone(), self.post_layernorm(image)


class PairJoin(nn.Module):
    """A text beside the two images that it compares."""

    def __init__(self, model: XvlmModel) -> None:
        super().__init__()
        self.post_layernorm = model.vision_encoder.post_layernorm

    def forward(self, text: Tensor, mask: Tensor, images: Tensor) -> tuple[Tensor, ...]:
        """Return f32[B, S, D] and f32[B, S], copied, and two f32[B, P, C] of f32[B, 2, P, C]."""
        seen = self.post_layernorm(images)
        return text.clone(), mask.clone(), seen[:, 0], seen[:, 1]


class MatchJoin(nn.Module):
    """Image and text in one space, by their first tokens."""

    def __init__(self, model: XvlmModel) -> None:
        super().__init__()
        self.post_layernorm, self.embeds = model.vision_encoder.post_layernorm, Embeds(model)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return two f32[B, E] of f32[B, P, C] and f32[B, S, D]."""
        embeds: tuple[Tensor, Tensor] = self.embeds(self.post_layernorm(image[:, :1]), text)
        return embeds


class FirstToken(nn.Module):
    """What answers from a text's first token, after any layer."""

    def __init__(self, model: XvlmModel) -> None:
        super().__init__()
        self.classifier = model.head()

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits f32[B, C] of f32[B, S, D]."""
        logits: Tensor = self.classifier(hidden[:, 0])
        return logits


def encoder_lanes(model: XvlmModel, tasks: Collection[str]) -> tuple[LaneSpec, ...]:
    """Return the lanes of the tasks, but for a decoder's."""
    sizes, width = model.config, model.config.text.hidden_size
    image = LaneSpec(
        name=IMAGE,
        rows=model.images,
        state={"hidden": carried(sizes.patches, sizes.vision.vision_width)},
        entry="vision.embed",
        layers=layer_names("vision", sizes.vision.num_hidden_layers),
        scores=("cosine",),
        compare={"hidden": None},
    )
    text = LaneSpec(
        name=TEXT,
        state={"hidden": carried(WORDS, width), "mask": constant(WORDS)},
        entry="text.embed",
        layers=layer_names("text", sizes.text.fusion_layer),
        scores=("cosine",),
        compare={"hidden": "mask"},
    )
    lanes = [image, text]
    if set(tasks) != {ITC}:
        lanes.append(_fusion_lane(model, tasks))
    if ITC in tasks:
        lanes.append(match_lane(model.vision_proj.out_features))
    return tuple(lanes)


def _fusion_lane(model: XvlmModel, tasks: Collection[str]) -> LaneSpec:
    sizes, width = model.config, model.config.text.hidden_size
    depth = model.images * sizes.cross_layers
    heads: dict[int, str] = {}
    classes = None
    if {ITM, NLVR2} & set(tasks):
        # Nothing answers before it has seen every image.
        heads = dict.fromkeys(range(model.images, depth + 1, model.images), ANSWER)
        classes = model.classes
    return LaneSpec(
        name=FUSION,
        join=(IMAGE, TEXT),
        state={
            "hidden": carried(WORDS, width),
            "mask": constant(WORDS),
            **{
                name: constant(sizes.patches, sizes.vision.vision_width)
                for name in _contexts(model)
            },
        },
        entry="fusion.join",
        layers=layer_names("fusion", depth),
        heads=heads,
        classes=classes,
        scores=("cosine",),
        compare={"hidden": "mask"},
    )


def _contexts(model: XvlmModel) -> list[str]:
    """Return the states that hold what cross layers look at, in turn."""
    return [f"context_{image}" for image in range(1, model.images + 1)]


def cut_encoders(segments: Segments, model: XvlmModel, lanes: tuple[LaneSpec, ...]) -> None:
    """Add the segments of `encoder_lanes`."""
    vision, text = model.vision_encoder, model.text_encoder
    words = ["input.input_ids", "input.attention_mask"]
    segments.add(IMAGE, "vision.embed", "entry", vision, ["input.pixel_values"], ["hidden"])
    segments.layers(IMAGE, vision.layers, [["hidden"]] * len(vision.layers))
    segments.add(TEXT, "text.embed", "entry", TextEntry(model), words, ["hidden", "mask"])
    segments.layers(TEXT, text.text_layers, [["hidden", "mask"]] * len(text.text_layers))
    for lane in lanes:
        if lane.name == FUSION:
            join = PairJoin(model) if model.images > 1 else FusionJoin(model)
            joined = ["text.hidden", "text.mask", "image.hidden"]
            segments.add(FUSION, "fusion.join", "join", join, joined, list(lane.state))
            seen = _contexts(model)
            reads = [["hidden", "mask", seen[at % len(seen)]] for at in range(lane.depth)]
            segments.layers(FUSION, text.cross_layers, reads)
            if lane.heads:
                segments.add(FUSION, ANSWER, "head", FirstToken(model), ["hidden"], ["head.logits"])
        if lane.name == MATCH:
            both = list(lane.state)
            reads_both = ["image.hidden", "text.hidden"]
            segments.add(MATCH, "match.join", "join", MatchJoin(model), reads_both, both)
            segments.add(MATCH, SIMILARITY, "head", Similarity(), both, ["head.logits"])
