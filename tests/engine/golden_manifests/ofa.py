"""OFA with MuE: two lanes that share their layers, and a decoder that loops with K, V caches."""

from exeunt.engine.bundle.manifest import Manifest
from tests.support.manifests import Record, head, manifest, segment, state, tensor

WIDTH, ENCODER_LAYERS, DECODER_LAYERS, VOCABULARY = 32, 3, 3, 300
HEADS, HEAD_WIDTH, PATCHES, BOS, EOS, PAD, MAX_STEPS = 4, 8, 16, 0, 2, 1, 13


def ofa(eos: int = EOS) -> Manifest:
    """Encoder lanes leave by cosine; every decoder layer answers through one shared projection."""
    encoder = [f"enc.{layer:02}" for layer in range(1, ENCODER_LAYERS + 1)]
    decoder = range(1, DECODER_LAYERS + 1)
    cross = [f"cross_{kind}_{layer}" for layer in decoder for kind in "kv"]
    segments = {
        "image.embed": segment(
            "entry", ["input.patch_images", "input.patch_masks"], ["hidden", "mask", "bias"]
        ),
        "text.embed": segment("entry", ["input.src_tokens"], ["hidden", "mask", "bias"]),
        **{name: segment("layer", ["hidden", "mask", "bias"], ["hidden"]) for name in encoder},
        "enc.norm": segment(
            "join",
            ["image.hidden", "text.hidden", "image.mask", "text.mask"],
            ["context", "context_mask"],
        ),
        **{
            f"cross_kv.{layer:02}": segment(
                "cross_kv", ["context"], [f"cross_k_{layer}", f"cross_v_{layer}"]
            )
            for layer in decoder
        },
        "dec.embed": segment("entry", ["loop.token", "loop.step", "context"], ["hidden"]),
        **{
            f"dec.{layer:02}": segment(
                "layer",
                [
                    *("hidden", f"self_k_{layer}", f"self_v_{layer}", "loop.step", "loop.cached"),
                    *(f"cross_k_{layer}", f"cross_v_{layer}", "context_mask"),
                ],
                ["hidden", f"self_k_{layer}", f"self_v_{layer}"],
            )
            for layer in decoder
        },
        **{
            f"propagate.{layer:02}": segment(
                "propagate_kv", ["hidden"], [f"self_k_{layer}", f"self_v_{layer}"]
            )
            for layer in decoder[1:]
        },
        "dec.logits": head(["hidden"]),
    }
    cache = state("cache", MAX_STEPS, HEADS * HEAD_WIDTH)
    lanes: list[Record] = [
        {
            "name": name,
            "state": {
                "hidden": state("carried", size, WIDTH),
                "mask": state("constant", size),
                "bias": state("constant", HEADS, size, size),
            },
            "entry": f"{name}.embed",
            "layers": encoder,
            "scores": ["cosine"],
            "compare": {"hidden": "mask"},
        }
        for name, size in (("image", PATCHES), ("text", "T"))
    ]
    lanes.append(
        {
            "name": "decoder",
            "join": ["image", "text"],
            "state": {
                "hidden": state("carried", 1, WIDTH),
                "context": state("constant", "C", WIDTH),
                "context_mask": state("constant", "C"),
                **{name: state("constant", HEADS, "C", HEAD_WIDTH) for name in cross},
                **{f"self_{kind}_{layer}": cache for layer in decoder for kind in "kv"},
            },
            "setup": ["enc.norm"],
            "contexts": {layer: f"cross_kv.{layer:02}" for layer in decoder},
            "entry": "dec.embed",
            "layers": [f"dec.{layer:02}" for layer in decoder],
            "heads": dict.fromkeys(decoder, "dec.logits"),
            "final_head": "dec.logits",
            "caches": [
                {
                    "appended": [f"self_k_{layer}", f"self_v_{layer}"],
                    "context": [f"cross_k_{layer}", f"cross_v_{layer}"],
                }
                for layer in decoder
            ],
            "propagate": {layer: f"propagate.{layer:02}" for layer in decoder[1:]},
            "classes": VOCABULARY,
            "scores": ["cosine", "entropy"],
            "compare": {"hidden": None},
            "loop": {"start": BOS, "eos": eos, "pad": PAD, "max_steps": MAX_STEPS},
        }
    )
    return manifest(
        "ofa-mue",
        {
            "tasks": [{"name": "caption", "kind": "generation", "lane": "decoder"}],
            "tensors": {
                "patch_images": tensor("float16", 3, 64, 64),
                "patch_masks": tensor("bool"),
                "src_tokens": tensor("int64", "T"),
            },
            "lanes": lanes,
            "segments": segments,
        },
    )
