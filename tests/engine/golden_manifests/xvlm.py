"""X-VLM: VQA by a decoder that ranks answers, and NLVR2 with one text and two images."""

from exeunt.engine.bundle.manifest import Manifest
from tests.support.manifests import Record, head, manifest, segment, state, tensor

WIDTH, PATCHES, IMAGE_LAYERS, TEXT_LAYERS, FUSION_LAYERS = 32, 17, 4, 2, 2
DECODER_LAYERS, ANSWERS, ANSWER_TOKENS, TOP = 2, 14, 5, 5


def xvlm_vqa() -> Manifest:
    """Five lanes: the decoder's first token picks the TOP answers, its second pass ranks them.

    Both decoder lanes name the same layers. The second carries TOP x ANSWER_TOKENS hidden vectors
    in one row, and its head answers -inf for answers outside the TOP.
    """
    decoder = [f"decoder.{layer:02}" for layer in range(1, DECODER_LAYERS + 1)]
    fusion, segments = _fusion(FUSION_LAYERS)
    segments |= {
        "decoder.start": segment(
            "join", ["fusion.hidden", "fusion.mask"], ["hidden", "context", "context_mask"]
        ),
        "decoder.pick": segment(
            "join",
            ["first.hidden", "first.context", "first.context_mask", "input.answer_ids"],
            ["hidden", "picked", "context", "context_mask"],
        ),
        **{
            name: segment("layer", ["hidden", "context", "context_mask"], ["hidden"])
            for name in decoder
        },
        "decoder.rank": head(["hidden", "picked", "input.answer_ids"]),
    }
    context = {"context": state("constant", "T", WIDTH), "context_mask": state("constant", "T")}
    first = {
        "name": "first",
        "join": ["fusion"],
        "state": {"hidden": state("carried", 1, 1, WIDTH), **context},
        "entry": "decoder.start",
        "layers": decoder,
    }
    rank = {
        "name": "decoder",
        "join": ["first"],
        "state": {
            "hidden": state("carried", TOP, ANSWER_TOKENS, WIDTH),
            "picked": state("constant", TOP, dtype="int64"),
            **context,
        },
        "entry": "decoder.pick",
        "layers": decoder,
        "final_head": "decoder.rank",
        "classes": ANSWERS,
    }
    return manifest(
        "xvlm-vqa",
        {
            "tasks": [{"name": "vqa", "kind": "ranking", "lane": "decoder"}],
            "tensors": {
                **_tensors(per="sample"),
                "answer_ids": tensor("int64", ANSWERS, ANSWER_TOKENS),
            },
            "lanes": [_image(rows=1), _text(), fusion, first, rank],
            "segments": segments,
        },
    )


def xvlm_nlvr2() -> Manifest:
    """Two image rows that leave one by one, one text row, and a fusion row that sees both images.

    Cross layer j attends to image j % 2.
    """
    fusion, segments = _fusion(2 * FUSION_LAYERS, patches=(2, PATCHES))
    segments |= {
        f"exit.{layer:02}": head(["hidden", "mask"]) for layer in range(1, 2 * FUSION_LAYERS + 1)
    }
    fusion |= {
        "heads": {layer: f"exit.{layer:02}" for layer in range(1, 2 * FUSION_LAYERS + 1)},
        "classes": 2,
        "scores": ["entropy", "patience"],
    }
    return manifest(
        "xvlm-nlvr2",
        {
            "tasks": [
                {
                    "name": "nlvr2",
                    "kind": "classification",
                    "lane": "fusion",
                    "labels": ["False", "True"],
                }
            ],
            "tensors": _tensors(per="row"),
            "lanes": [_image(rows=2), _text(), fusion],
            "segments": segments,
        },
    )


def _tensors(per: str) -> Record:
    return {
        "images": tensor("float16", 3, 64, 64, per=per),
        "input_ids": tensor("int64", "T"),
        "attention_mask": tensor("int64", "T"),
    }


def _image(rows: int) -> Record:
    return {
        "name": "image",
        "rows": rows,
        "state": {"hidden": state("carried", PATCHES, WIDTH)},
        "entry": "vision.embed",
        "layers": [f"vision.{layer:02}" for layer in range(1, IMAGE_LAYERS + 1)],
        "scores": ["cosine"],
        "compare": {"hidden": None},
    }


def _text() -> Record:
    return {
        "name": "text",
        "state": {"hidden": state("carried", "T", WIDTH), "mask": state("constant", "T")},
        "entry": "text.embed",
        "layers": [f"text.{layer:02}" for layer in range(1, TEXT_LAYERS + 1)],
        "scores": ["cosine"],
        "compare": {"hidden": "mask"},
    }


def _fusion(layers: int, patches: tuple[int, ...] = (PATCHES,)) -> tuple[Record, Record]:
    """Return the fusion lane and every segment up to its last layer."""
    names = [f"fusion.{layer:02}" for layer in range(1, layers + 1)]
    vision = [f"vision.{layer:02}" for layer in range(1, IMAGE_LAYERS + 1)]
    text = [f"text.{layer:02}" for layer in range(1, TEXT_LAYERS + 1)]
    lane = {
        "name": "fusion",
        "join": ["image", "text"],
        "state": {
            "hidden": state("carried", "T", WIDTH),
            "mask": state("constant", "T"),
            "images": state("constant", *patches, WIDTH),
        },
        "entry": "fusion.join",
        "layers": names,
    }
    segments = {
        "vision.embed": segment("entry", ["input.images"], ["hidden"]),
        **{name: segment("layer", ["hidden"], ["hidden"]) for name in vision},
        "text.embed": segment(
            "entry", ["input.input_ids", "input.attention_mask"], ["hidden", "mask"]
        ),
        **{name: segment("layer", ["hidden", "mask"], ["hidden"]) for name in text},
        "fusion.join": segment(
            "join", ["text.hidden", "text.mask", "image.hidden"], ["hidden", "mask", "images"]
        ),
        **{name: segment("layer", ["hidden", "mask", "images"], ["hidden"]) for name in names},
    }
    return lane, segments
