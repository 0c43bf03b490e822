"""Golden manifests of models that generate, given images and texts in place of raw tensors."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel

from exeunt.engine import Bundle
from exeunt.engine.bundle.manifest import Manifest
from tests.engine.golden_manifests import ofa, oscar_captioning
from tests.support.manifests import NO_SHA256, WORDS, tensor

LABELS = ("yes", "no", "maybe")
MARKS = ("<s>", "<pad>", "</s>")
RULES: dict[str, dict[str, Any]] = {
    "ofa": {
        "image": {"any": [{"criterion": "cosine", "threshold": 0.7}]},
        "text": {"any": [{"criterion": "cosine", "threshold": 0.95}]},
        "decoder": {"any": [{"criterion": "cosine", "threshold": 0.9}]},
    },
    "oscar": {"joint": {"any": [{"criterion": "entropy", "threshold": 2.4}]}},
}
_ENTRIES = {  # what reads the image, the text and, once a token, both
    "ofa": {"image.embed": ["image"], "text.embed": ["text"], "dec.embed": ["image", "text"]},
    "oscar": {"regions": ["image"], "embed": ["image", "text"]},
}
_READS = {"image": ["pixel_values"], "text": ["input_ids", "attention_mask"]}


def generating(family: str, root: Path, *, by_bytes: bool = False, max_steps: int = 13) -> Bundle:
    """Return a bundle that takes an image (8 x 8 pixels) and a text, and answers with texts.

    Its tasks: `tell`, with the request's text; `caption`, with a prompt of its own; `judge`, which
    chooses among LABELS.

    Args:
        family: `ofa` or `oscar`.
        root: gets the tokenizer.
        by_bytes: whether a token is a byte, so that few of the generated ones are characters;
            otherwise a word.
        max_steps: of the loop.
    """
    tokenizer = _byte_tokenizer() if by_bytes else _word_tokenizer()
    tokenizer.save(str(root / "tokenizer.json"))
    start, pad, eos = (tokenizer.token_to_id(mark) for mark in MARKS)
    golden = ofa() if family == "ofa" else oscar_captioning()
    record: dict[str, Any] = golden.model_dump()
    length = "T" if family == "ofa" else "S"
    record["tensors"] = {
        "pixel_values": tensor("float32", 3, 8, 8),
        "input_ids": tensor("int64", length),
        "attention_mask": tensor("int64", length),
    }
    for name, kinds in _ENTRIES[family].items():
        inputs = record["segments"][name]["inputs"]
        own = {graph: text for graph, text in inputs.items() if not text.startswith("input.")}
        read = [tensor_name for kind in kinds for tensor_name in _READS[kind]]
        record["segments"][name]["inputs"] = own | {f"in_{one}": f"input.{one}" for one in read}
    lane = record["lanes"][-1]
    lane["classes"] = tokenizer.get_vocab_size()
    lane["loop"] |= {"start": start, "pad": pad, "eos": eos, "max_steps": max_steps}
    for state in lane["state"].values():
        if state["role"] == "cache":
            state["shape"] = (max_steps, *state["shape"][1:])
    record["inputs"] = {
        "image": {"size": (8, 8)},
        "text": {"max_tokens": 64, "pad_to_multiple": 4, "pad_id": pad},
    }
    record["files"] = {"tokenizer.json": NO_SHA256}
    record["tasks"] = [
        {"name": "tell", "kind": "generation", "lane": lane["name"], "prompt": "the image {text}"},
        {"name": "caption", "kind": "generation", "lane": lane["name"], "prompt": "what is in it"},
        {
            "name": "judge",
            "kind": "classification",
            "lane": lane["name"],
            "labels": LABELS,
            "answers": ((1,), (2, 3), (2, 4)),
        },
    ]
    record["exit_policy"] = {"version": 7, "tasks": {"default": RULES[family]}}
    return Bundle(root, Manifest.model_validate(record))


def _word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(
        WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(MARKS))
    return tokenizer


def _byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(MARKS))
    return tokenizer
