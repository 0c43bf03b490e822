"""Hand-written manifests for the fake backend, which needs none of their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from exeunt.engine import Bundle
from exeunt.engine.bundle.manifest import Manifest

Record = dict[str, Any]
NO_SHA256 = "0" * 64
CLASSIFICATION = ("entropy", "patience", "confidence", "margin")
WORDS = ("[PAD]", "[UNK]", "what", "shape", "is", "in", "the", "image", "a", "cat", "dog", "yes")


def segment(kind: str, inputs: Sequence[str], outputs: Sequence[str]) -> Record:
    """Return a segment's record; each reference is its own graph name, dots made underscores."""
    return {
        "kind": kind,
        "file": "none.onnx",
        "sha256": NO_SHA256,
        "inputs": {text.replace(".", "_"): text for text in inputs},
        "outputs": {f"new_{text.replace('.', '_')}": text for text in outputs},
    }


def head(inputs: Sequence[str]) -> Record:
    """Return the record of a head that reads `inputs`."""
    return segment("head", inputs, ["head.logits"])


def tensor(dtype: str, *shape: int | str, per: str = "sample") -> Record:
    """Return the record of a raw tensor."""
    return {"dtype": dtype, "shape": list(shape), "per": per}


def state(role: str, *shape: int | str, dtype: str = "float32") -> Record:
    """Return the record of a lane's state."""
    return {"role": role, "dtype": dtype, "shape": list(shape)}


def manifest(name: str, parts: Mapping[str, Any]) -> Manifest:
    """Return a validated manifest of `parts`, each segment with a file of its own."""
    segments = {
        key: {**value, "file": f"segments/{key}.onnx"} for key, value in parts["segments"].items()
    }
    return Manifest.model_validate(
        {"format": 1, "name": name, "family": "test", **parts, "segments": segments}
    )


def single_stream_parts(
    layers: int = 6,
    classes: int = 3,
    *,
    labels: Sequence[str] = (),
    final_head: bool = False,
    with_inputs: bool = False,
    exit_policy: Record | None = None,
) -> Record:
    """Return the parts of `single_stream`, for tests that change some of them."""
    segments = {
        "embed": segment(
            "entry",
            ["input.pixel_values", "input.input_ids", "input.attention_mask"],
            ["hidden", "mask"],
        )
    }
    names = [f"layer.{layer:02}" for layer in range(1, layers + 1)]
    segments |= {name: segment("layer", ["hidden", "mask"], ["hidden"]) for name in names}
    heads = {layer: f"head.{layer:02}" for layer in range(1, layers + 1)}
    segments |= {name: head(["hidden"]) for name in heads.values()}
    if final_head:
        segments["final"] = head(["hidden"])
    lane = {
        "name": "joint",
        "state": {"hidden": state("carried", "T", 16), "mask": state("constant", "T")},
        "entry": "embed",
        "layers": names,
        "heads": heads,
        "final_head": "final" if final_head else None,
        "classes": classes,
        "scores": ["cosine", *(CLASSIFICATION if classes > 1 else ())],
        "compare": {"hidden": "mask"},
    }
    parts: Record = {
        "tasks": [{"name": "answer", "kind": "classification", "lane": "joint", "labels": labels}],
        "tensors": {
            "pixel_values": tensor("float32", 3, 8, 8),
            "input_ids": tensor("int64", "T"),
            "attention_mask": tensor("int64", "T"),
        },
        "lanes": [lane],
        "segments": segments,
        "exit_policy": exit_policy,
    }
    if with_inputs:
        parts["inputs"] = {
            "image": {"size": [8, 8]},
            "text": {"max_tokens": 16, "pad_to_multiple": 4},
        }
        parts["files"] = {"tokenizer.json": NO_SHA256}
    return parts


def single_stream(
    layers: int = 6,
    classes: int = 3,
    *,
    labels: Sequence[str] = (),
    final_head: bool = False,
    with_inputs: bool = False,
    exit_policy: Record | None = None,
) -> Manifest:
    """Return one `joint` lane with an exit head after each layer.

    Args:
        layers: depth of the lane.
        classes: width of the heads.
        labels: of the task `answer`, as many as classes; none by default.
        final_head: whether another head answers at full depth.
        with_inputs: whether it takes an image (8 x 8 pixels) and a text (at most 16 tokens), and
            not only raw tensors; `fake_bundle` then needs a directory for the tokenizer.
        exit_policy: what the manifest recommends.
    """
    return manifest(
        "single",
        single_stream_parts(
            layers,
            classes,
            labels=labels,
            final_head=final_head,
            with_inputs=with_inputs,
            exit_policy=exit_policy,
        ),
    )


def fake_bundle(contents: Manifest, root: Path | None = None) -> Bundle:
    """Return a bundle for the fake backend.

    Args:
        contents: its manifest.
        root: a directory that gets a small tokenizer (of WORDS), where the manifest names one.
    """
    if root is not None and contents.inputs.text:
        vocabulary = {word: place for place, word in enumerate(WORDS)}
        tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.save(str(root / contents.inputs.text.tokenizer))
    return Bundle(root or Path("nowhere"), contents)
