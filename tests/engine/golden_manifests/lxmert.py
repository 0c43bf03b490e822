"""LXMERT: two lanes of different depth, then a cross lane that carries two hidden states."""

from exeunt.engine.bundle.manifest import Manifest
from tests.support.manifests import CLASSIFICATION, head, manifest, segment, state, tensor

WIDTH, TEXT_LAYERS, IMAGE_LAYERS, CROSS_LAYERS, ANSWERS = 32, 4, 2, 2, 17


def lxmert() -> Manifest:
    """The answer is read from the language state; both states are compared for cosine."""
    text = [f"language.{layer:02}" for layer in range(1, TEXT_LAYERS + 1)]
    image = [f"vision.{layer:02}" for layer in range(1, IMAGE_LAYERS + 1)]
    cross = [f"cross.{layer:02}" for layer in range(1, CROSS_LAYERS + 1)]
    both = ["language", "vision"]
    masks = ["language_mask", "vision_mask"]
    segments = {
        "language.embed": segment(
            "entry", ["input.input_ids", "input.attention_mask"], ["hidden", "mask"]
        ),
        "vision.embed": segment(
            "entry",
            ["input.visual_feats", "input.visual_pos", "input.visual_attention_mask"],
            ["hidden", "mask"],
        ),
        "cross.join": segment(
            "join", ["text.hidden", "image.hidden", "text.mask", "image.mask"], [*both, *masks]
        ),
        **{name: segment("layer", ["hidden", "mask"], ["hidden"]) for name in (*text, *image)},
        **{name: segment("layer", [*both, *masks], both) for name in cross},
        "exit.01": head(["language"]),
        "answer": head(["language"]),
    }
    encoder = {"entry": None, "scores": ["cosine"], "compare": {"hidden": "mask"}}
    lanes = [
        {
            **encoder,
            "name": "image",
            "state": {"hidden": state("carried", "R", WIDTH), "mask": state("constant", "R")},
            "entry": "vision.embed",
            "layers": image,
        },
        {
            **encoder,
            "name": "text",
            "state": {"hidden": state("carried", "T", WIDTH), "mask": state("constant", "T")},
            "entry": "language.embed",
            "layers": text,
        },
        {
            "name": "cross",
            "join": ["image", "text"],
            "state": {
                "language": state("carried", "T", WIDTH),
                "vision": state("carried", "R", WIDTH),
                "language_mask": state("constant", "T"),
                "vision_mask": state("constant", "R"),
            },
            "entry": "cross.join",
            "layers": cross,
            "heads": {1: "exit.01"},
            "final_head": "answer",
            "classes": ANSWERS,
            "scores": [*CLASSIFICATION, "cosine"],
            "compare": {"language": "language_mask", "vision": "vision_mask"},
        },
    ]
    return manifest(
        "lxmert-vqa",
        {
            "tasks": [{"name": "vqa", "kind": "classification", "lane": "cross"}],
            "tensors": {
                "input_ids": tensor("int64", "T"),
                "attention_mask": tensor("int64", "T"),
                "visual_feats": tensor("float16", "R", 64),
                "visual_pos": tensor("float32", "R", 4),
                "visual_attention_mask": tensor("int64", "R"),
            },
            "lanes": lanes,
            "segments": segments,
        },
    )
