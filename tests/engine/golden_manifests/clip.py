"""CLIP: two lanes and a join with no layers behind it, answering a single logit."""

from exeunt.engine.bundle.manifest import Manifest
from tests.support.manifests import head, manifest, segment, state, tensor

WIDTH, LAYERS, PATCHES, PROJECTION = 32, 4, 17, 16


def clip() -> Manifest:
    """The logit is the scaled cosine of the two embeddings."""
    vision = [f"vision.{layer:02}" for layer in range(1, LAYERS + 1)]
    text = [f"text.{layer:02}" for layer in range(1, LAYERS + 1)]
    segments = {
        "vision.embed": segment("entry", ["input.pixel_values"], ["hidden"]),
        "text.embed": segment(
            "entry", ["input.input_ids", "input.attention_mask"], ["hidden", "mask"]
        ),
        **{name: segment("layer", ["hidden"], ["hidden"]) for name in vision},
        **{name: segment("layer", ["hidden", "mask"], ["hidden"]) for name in text},
        "project": segment(
            "join", ["image.hidden", "text.hidden", "text.mask"], ["image_embed", "text_embed"]
        ),
        "similarity": head(["image_embed", "text_embed"]),
    }
    lanes = [
        {
            "name": "image",
            "state": {"hidden": state("carried", PATCHES, WIDTH)},
            "entry": "vision.embed",
            "layers": vision,
            "scores": ["cosine"],
            "compare": {"hidden": None},
        },
        {
            "name": "text",
            "state": {"hidden": state("carried", "T", WIDTH), "mask": state("constant", "T")},
            "entry": "text.embed",
            "layers": text,
            "scores": ["cosine"],
            "compare": {"hidden": "mask"},
        },
        {
            "name": "match",
            "join": ["image", "text"],
            "state": {
                "image_embed": state("carried", PROJECTION),
                "text_embed": state("carried", PROJECTION),
            },
            "entry": "project",
            "final_head": "similarity",
            "classes": 1,
        },
    ]
    return manifest(
        "clip",
        {
            "tasks": [{"name": "match", "kind": "matching", "lane": "match"}],
            "tensors": {
                "pixel_values": tensor("float16", 3, 64, 64),
                "input_ids": tensor("int64", "T"),
                "attention_mask": tensor("int64", "T"),
            },
            "lanes": lanes,
            "segments": segments,
        },
    )
