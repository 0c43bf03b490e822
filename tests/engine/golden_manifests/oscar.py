"""Oscar captioning: the joint lane walked once a token, without caches, under a 3-D mask."""

from exeunt.engine.bundle.manifest import Manifest
from tests.support.manifests import CLASSIFICATION, head, manifest, segment, state, tensor

WIDTH, LAYERS, VOCABULARY, CLS, SEP, MASK = 64, 3, 300, 101, 102, 103


def oscar_captioning(eos: int = SEP, max_steps: int = 10) -> Manifest:
    """Each step reads all tokens so far with [MASK] behind them and answers at its place.

    `pad` is [MASK], so the place behind the last token holds it at every step; the mask keeps the
    tokens from looking further.
    """
    layers = [f"layer.{layer:02}" for layer in range(1, LAYERS + 1)]
    heads = {layer: f"lm.{layer:02}" for layer in range(1, LAYERS + 1)}
    segments = {
        "regions": segment("entry", ["input.img_feats"], ["regions"]),
        "embed": segment("entry", ["loop.tokens", "regions", "input.attention_mask"], ["hidden"]),
        **{
            name: segment("layer", ["hidden", "input.attention_mask"], ["hidden"])
            for name in layers
        },
        **{name: head(["hidden", "loop.step"]) for name in heads.values()},
    }
    lane = {
        "name": "joint",
        "state": {
            "hidden": state("carried", "S", WIDTH),
            "regions": state("constant", "R", WIDTH),
        },
        "setup": ["regions"],
        "entry": "embed",
        "layers": layers,
        "heads": heads,
        "classes": VOCABULARY,
        "scores": [*CLASSIFICATION, "cosine"],
        "compare": {"hidden": None},
        "loop": {"start": CLS, "eos": eos, "pad": MASK, "max_steps": max_steps},
    }
    return manifest(
        "oscar-captioning",
        {
            "tasks": [{"name": "caption", "kind": "generation", "lane": "joint"}],
            "tensors": {
                "img_feats": tensor("float16", "R", 2054),
                "attention_mask": tensor("uint8", "S", "S"),
            },
            "lanes": [lane],
            "segments": segments,
        },
    )
