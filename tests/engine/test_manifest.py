"""Manifests that contradict themselves are refused, naming the part and the mend."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from exeunt.engine.bundle.manifest import Manifest
from tests.engine.golden_manifests import BUILDERS
from tests.support.manifests import head, segment, single_stream_parts, state, tensor

Record = dict[str, Any]
Change = Callable[[Record], object]


def lane(parts: Record) -> Record:
    found: Record = parts["lanes"][0]
    return found


def second_lane(parts: Record, **changes: object) -> object:
    parts["lanes"].append(
        {
            "name": "other",
            "join": ["joint"],
            "state": {"hidden": state("carried", "T", 16)},
            "entry": "other.join",
            **changes,
        }
    )
    parts["segments"]["other.join"] = segment("join", ["joint.hidden"], ["hidden"])
    return parts


def put(parts: Record, name: str, record: Record) -> object:
    parts["segments"][name] = record
    return parts


REFUSED: dict[str, tuple[Change, str]] = {
    "another format": (lambda p: p.update(format=2), "format"),
    "an unknown key": (lambda p: p.update(topology="single"), "topology"),
    "no lanes": (lambda p: p.update(lanes=[]), "lanes"),
    "no tasks": (lambda p: p.update(tasks=[]), "tasks"),
    "lanes in a circle": (
        lambda p: (second_lane(p), lane(p).update(join=["other"])),
        "wait for each other in a circle",
    ),
    "a lane that joins itself": (lambda p: lane(p).update(join=["joint"]), "circle"),
    "a joined lane that is not there": (lambda p: lane(p).update(join=["image"]), r"joins \['im"),
    "two lanes of one name": (lambda p: p["lanes"].append(lane(p)), r"\['joint'\] are used twice"),
    "two tasks of one name": (lambda p: p["tasks"].append(p["tasks"][0]), r"\['answer'\] are used"),
    **{
        f"a lane called {name}": (lambda p, name=name: lane(p).update(name=name), "reserved")  # type: ignore[misc]
        for name in ("input", "head", "loop")
    },
    "a lane name with a dot": (lambda p: lane(p).update(name="a.b"), "lanes.0.name"),
    "a task without its lane": (lambda p: p["tasks"][0].update(lane="image"), "'image'"),
    "labels of another number": (lambda p: p["tasks"][0].update(labels=["a", "b"]), "2 labels"),
    "an answering lane without a last head": (
        lambda p: (lane(p)["heads"].pop(6), p["segments"].pop("head.06")),
        "needs a head after its last layer",
    ),
    "a segment that is not there": (lambda p: p["segments"].pop("layer.03"), "'layer.03'"),
    "a segment that no lane uses": (lambda p: put(p, "extra", head(["hidden"])), r"\['extra'\]"),
    "an unknown state": (
        lambda p: put(p, "layer.02", segment("layer", ["hiden"], ["hidden"])),
        "'hiden', which is not declared",
    ),
    "an unknown raw tensor": (
        lambda p: put(p, "layer.02", segment("layer", ["hidden", "input.mask"], ["hidden"])),
        "'input.mask', which is not declared",
    ),
    "a lane that is not joined": (
        lambda p: put(p, "layer.02", segment("layer", ["hidden", "image.hidden"], ["hidden"])),
        "reads 'image.hidden'",
    ),
    "loop tensors without a loop": (
        lambda p: put(p, "layer.02", segment("layer", ["hidden", "loop.step"], ["hidden"])),
        "reads 'loop.step'",
    ),
    "an unknown loop tensor": (
        lambda p: (
            lane(p).update(loop={"start": 0, "eos": 1, "pad": 2, "max_steps": 3}),
            put(p, "layer.02", segment("layer", ["hidden", "loop.stop"], ["hidden"])),
        ),
        "'loop.stop', which is not declared",
    ),
    "a write to another lane": (
        lambda p: put(p, "layer.02", segment("layer", ["hidden"], ["image.hidden"])),
        "no state of the lane",
    ),
    "a layer that writes a constant": (
        lambda p: put(p, "layer.02", segment("layer", ["hidden"], ["hidden", "mask"])),
        "a constant: make it `carried`",
    ),
    "a head that writes a state": (
        lambda p: put(p, "head.02", segment("head", ["hidden"], ["hidden"])),
        "a head writes `head.logits`",
    ),
    "a layer as a head": (
        lambda p: lane(p)["heads"].update({2: "layer.02"}),
        "writes 'hidden'|as head",
    ),
    "a head as a layer": (lambda p: lane(p)["layers"].__setitem__(2, "head.02"), "head.02"),
    "a layer as the entry": (
        lambda p: put(p, "embed", {**p["segments"]["embed"], "kind": "layer"}),
        "entered through 'embed'|a constant",
    ),
    "no entry": (lambda p: lane(p).update(entry=None), "needs an `entry`"),
    "a state that nothing writes": (
        lambda p: put(p, "embed", segment("entry", ["input.input_ids"], ["hidden"])),
        r"reads \['mask'\] before anything has written it",
    ),
    "a head after layer 0": (lambda p: lane(p)["heads"].update({0: "head.01"}), "count from 1"),
    "a head beyond the end": (lambda p: lane(p)["heads"].update({7: "head.01"}), "count from 1"),
    "heads without a width": (lambda p: lane(p).update(classes=None), "`classes` must say"),
    "rows with heads that are no group": (lambda p: lane(p).update(rows=2), "unit: group"),
    "a single logit judged by entropy": (lambda p: lane(p).update(classes=1), "single logit"),
    "cosine without states": (lambda p: lane(p).update(compare={}), "`compare` must name"),
    "a compared state that is not there": (
        lambda p: lane(p).update(compare={"image": None}),
        "compares 'image'",
    ),
    "a compared mask that is not there": (
        lambda p: lane(p).update(compare={"hidden": "padding"}),
        "compares 'padding'",
    ),
    "a compared state that a layer does not write": (
        lambda p: lane(p).update(compare={"mask": None}),
        "'mask', which layer 'layer.01' does not both read and write",
    ),
    "criteria without exit heads": (
        lambda p: (
            lane(p).update(heads={}, final_head="head.06"),
            [p["segments"].pop(f"head.0{layer}") for layer in range(1, 6)],
        ),
        "no exit heads",
    ),
    "a cache without a loop": (
        lambda p: lane(p)["state"].update(keys=state("cache", 4, 13)),
        "no `loop` to keep them for",
    ),
    "a loop without a last head": (
        lambda p: second_lane(p, loop={"start": 0, "eos": 1, "pad": 2, "max_steps": 3}),
        "to choose the next token",
    ),
    "rows that meet no rows": (
        lambda p: (
            lane(p).update(rows=2, unit="group"),
            second_lane(p, rows=3),
        ),
        "3 rows and reads 'joint.hidden' of 2",
    ),
    "raw rows that meet no rows": (
        lambda p: (
            p["tensors"].update(extra=tensor("int64", per="row")),
            lane(p).update(rows=2, unit="group"),
            second_lane(p, rows=4),
            put(p, "embed", segment("entry", ["input.extra"], ["hidden", "mask"])),
        ),
        "2 rows and reads 'input.extra' of 4",
    ),
    "an input without its tensor": (
        lambda p: p.update(inputs={"image": {"size": [8, 8], "tensor": "image"}}),
        r"\['image'\]",
    ),
    "a tokenizer that is no file": (
        lambda p: p.update(inputs={"text": {"max_tokens": 8}}),
        "tokenizer.json",
    ),
    "a file outside the bundle": (
        lambda p: p["segments"]["embed"].update(file="../model.onnx"),
        "segments.embed.file",
    ),
    "an absolute file": (lambda p: p["segments"]["embed"].update(file="/etc/passwd"), "file"),
    "a checksum that is none": (lambda p: p["segments"]["embed"].update(sha256="12"), "sha256"),
    "a size of 0": (lambda p: p["tensors"].update(x=tensor("int64", 0)), "tensors.x.shape"),
    "a label twice": (
        lambda p: p["tasks"][0].update(labels=["no", "yes", "no"]),
        r"label names \['no'\] are used twice",
    ),
    "pixels that the tensor does not hold": (
        lambda p: p.update(inputs={"image": {"size": [8, 16]}}),
        r"makes \[8, 16\] pixels, but the tensor 'pixel_values' has the shape \[3, 8, 8\]",
    ),
    "no pixels": (lambda p: p.update(inputs={"image": {"size": [0, 8]}}), "inputs.image.size"),
    "a deviation of 0": (
        lambda p: p.update(inputs={"image": {"size": [8, 8], "std": [0, 1, 1]}}),
        "inputs.image.std",
    ),
    "a mean that is no number": (
        lambda p: p.update(inputs={"image": {"size": [8, 8], "mean": [float("nan"), 0, 0]}}),
        "inputs.image.mean",
    ),
    "an unknown dtype": (lambda p: p["tensors"].update(x=tensor("float8")), "tensors.x.dtype"),
}


def complete(parts: Record) -> Record:
    return {"format": 1, "name": "single", "family": "test", **copy.deepcopy(parts)}


@pytest.mark.parametrize("name", REFUSED)
def test_a_manifest_that_contradicts_itself_is_refused(name: str) -> None:
    change, reason = REFUSED[name]
    parts = complete(single_stream_parts())
    change(parts)
    with pytest.raises(ValidationError) as caught:
        Manifest.model_validate(parts)
    assert re.search(reason, str(caught.value)), str(caught.value)


def test_the_unchanged_manifest_is_valid() -> None:
    assert Manifest.model_validate(complete(single_stream_parts())).lane("joint").depth == 6


@pytest.mark.parametrize("family", BUILDERS)
def test_a_manifest_survives_its_json(family: str) -> None:
    manifest = BUILDERS[family]()
    again = Manifest.model_validate_json(manifest.model_dump_json())
    assert again == manifest
    assert again.lanes[0].heads == manifest.lanes[0].heads
