"""UNITER-MSD: NLVR2's pair of images and VCR's four answers, each a group of rows."""

from exeunt.engine.bundle.manifest import Manifest
from tests.support.manifests import CLASSIFICATION, Record, head, manifest, segment, state, tensor

WIDTH, LAYERS, REGION = 32, 4, 64


def uniter_nlvr2() -> Manifest:
    """Two rows, the same text with the left and the right image; the heads attend over both.

    Twelve exit heads (four here) *and* a final head of its own.
    """
    tensors = {
        "input_ids": tensor("int64", "T"),
        "position_ids": tensor("int64", "T"),
        "img_feat": tensor("float32", "R", REGION, per="row"),
        "img_pos_feat": tensor("float32", "R", 7, per="row"),
        "img_type_ids": tensor("int64", "R", per="row"),
        "attn_masks": tensor("int64", "S", per="row"),
        "gather_index": tensor("int64", "S", per="row"),
    }
    return manifest(
        "uniter-msd-nlvr2",
        {
            "tasks": [
                {
                    "name": "nlvr2",
                    "kind": "classification",
                    "lane": "joint",
                    "labels": ["False", "True"],
                }
            ],
            "tensors": tensors,
            **_joint(rows=2, classes=2, tensors=tensors),
        },
    )


def uniter_vcr() -> Manifest:
    """Four rows, the same question and image with another answer each; one logit a row."""
    tensors = {
        "input_ids": tensor("int64", "T", per="row"),
        "position_ids": tensor("int64", "T"),
        "token_type_ids": tensor("int64", "T", per="row"),
        "img_feat": tensor("float32", "R", REGION),
        "img_pos_feat": tensor("float32", "R", 7),
        "attn_masks": tensor("int64", "S", per="row"),
        "gather_index": tensor("int64", "S", per="row"),
    }
    return manifest(
        "uniter-vcr",
        {
            "tasks": [{"name": "vcr", "kind": "multiple_choice", "lane": "joint"}],
            "tensors": tensors,
            "inputs": {"choices": {"count": 4}},
            **_joint(rows=4, classes=4, tensors=tensors),
        },
    )


def _joint(rows: int, classes: int, tensors: Record) -> Record:
    layers = [f"layer.{layer:02}" for layer in range(1, LAYERS + 1)]
    exits = {layer: f"exit.{layer:02}" for layer in range(1, LAYERS + 1)}
    segments = {
        "embed": segment("entry", [f"input.{name}" for name in tensors], ["hidden", "mask"]),
        **{name: segment("layer", ["hidden", "mask"], ["hidden"]) for name in layers},
        **{name: head(["hidden", "mask"]) for name in (*exits.values(), "final")},
    }
    lane = {
        "name": "joint",
        "rows": rows,
        "unit": "group",
        "state": {"hidden": state("carried", "S", WIDTH), "mask": state("constant", "S")},
        "entry": "embed",
        "layers": layers,
        "heads": exits,
        "final_head": "final",
        "classes": classes,
        "scores": [*CLASSIFICATION, "cosine"],
        "compare": {"hidden": "mask"},
    }
    return {"lanes": [lane], "segments": segments}
