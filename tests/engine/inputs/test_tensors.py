"""Raw tensors and samples: checked against the manifest before they reach the engine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exeunt.engine import Engine
from exeunt.engine.errors import ImageError, InputError, TensorError
from exeunt.engine.inputs import TensorChecker
from tests.engine.golden_manifests import ofa, uniter_nlvr2, xvlm_nlvr2
from tests.support.manifests import fake_bundle, single_stream
from tests.support.tensors import random_tensors

MANIFEST = single_stream()
CHECKER = TensorChecker(MANIFEST)


def changed(name: str, value: object) -> dict[str, object]:
    return {**random_tensors(MANIFEST, 2), name: value}


IDS = random_tensors(MANIFEST, 2)["input_ids"]
REFUSED: dict[str, tuple[Mapping[str, object], str]] = {
    "no tensors": ({}, "missing"),
    "one missing": (
        {name: array for name, array in random_tensors(MANIFEST, 2).items() if name != "input_ids"},
        r"\['input_ids'\] are missing",
    ),
    "one too many": (changed("extra", IDS), r"unknown tensors \['extra'\]"),
    "another dtype": (changed("input_ids", IDS.astype(np.int32)), "int32, expected int64"),
    "floats for ids": (changed("input_ids", IDS.astype(np.float32)), "float32, expected int64"),
    "objects": (changed("input_ids", IDS.astype(object)), "object, expected int64"),
    "another byte order": (changed("input_ids", IDS.astype(">i8")), "expected int64"),
    "too few axes": (changed("pixel_values", np.zeros((2, 8, 8), np.float32)), r"\[3, 8, 8\]"),
    "too many axes": (changed("input_ids", IDS[None]), "leading sample axis"),
    "no sample axis": (changed("input_ids", np.int64(3)), "leading sample axis"),
    "another size": (changed("pixel_values", np.zeros((2, 3, 8, 9), np.float32)), r"\[3, 8, 9\]"),
    "an empty axis": (
        {**changed("input_ids", IDS[:, :0]), "attention_mask": IDS[:, :0]},
        r"shape \[0\]",
    ),
    "sizes that differ": (changed("attention_mask", IDS[:, :4]), "'T': 5"),
    "samples that differ": (changed("input_ids", IDS[:1]), "leading sample axis"),
    "no samples": (random_tensors(MANIFEST, 0), "no samples"),
    "ragged lists": (changed("input_ids", [[1, 2], [1]]), "input_ids"),
    "a text": (changed("input_ids", "what"), "leading sample axis"),
    "nothing": (changed("input_ids", None), "leading sample axis"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tensors_that_do_not_fit_are_refused_with_the_reason(name: str) -> None:
    tensors, reason = REFUSED[name]
    with pytest.raises(TensorError, match=reason):
        CHECKER.batch(tensors)


def test_an_engine_refuses_before_it_reserves() -> None:
    with Engine.open(fake_bundle(MANIFEST), {"backend": "fake"}) as engine:
        for tensors, _ in REFUSED.values():
            with pytest.raises(TensorError):
                engine.run(tensors)
            with pytest.raises(TensorError):
                engine.probe(tensors)
        assert engine.queued_rows == 0
        assert len(engine.run(random_tensors(MANIFEST, 2))) == 2


def test_tensors_become_contiguous() -> None:
    tensors = random_tensors(MANIFEST, 4)
    tensors["pixel_values"] = np.asfortranarray(tensors["pixel_values"])
    tensors["input_ids"] = random_tensors(MANIFEST, 8)["input_ids"][::2]
    count, checked = CHECKER.batch(tensors)
    assert count == 4
    for name, array in checked.items():
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, tensors[name])


def test_lists_of_numbers_are_taken() -> None:
    tensors: dict[str, Any] = dict(random_tensors(MANIFEST, 2))
    tensors["input_ids"] = tensors["input_ids"].tolist()
    assert CHECKER.batch(tensors)[0] == 2


@pytest.mark.parametrize(("build", "rows"), [(uniter_nlvr2, 2), (xvlm_nlvr2, 2)])
def test_tensors_of_rows_have_an_axis_for_them(build: Any, rows: int) -> None:
    manifest = build()
    checker, tensors = TensorChecker(manifest), random_tensors(manifest, 3)
    assert checker.batch(tensors)[0] == 3
    name = next(name for name, spec in manifest.tensors.items() if spec.per == "row")
    with pytest.raises(TensorError, match=name):
        checker.batch({**tensors, name: tensors[name][:, : rows - 1]})
    with pytest.raises(TensorError, match=name):
        checker.batch({**tensors, name: tensors[name][:, 0]})


def test_a_number_for_each_sample_keeps_its_shape() -> None:
    manifest = ofa()
    tensors = random_tensors(manifest, 3)
    assert tensors["patch_masks"].shape == (3,)
    one = {name: array[1] for name, array in tensors.items()}
    assert TensorChecker(manifest).sample(one)["patch_masks"].shape == ()
    with Engine.open(fake_bundle(manifest), {"backend": "fake"}) as engine:
        answers = engine.run(tensors)
        with engine.reserve() as ticket:
            alone = engine.submit_tensors(ticket, one).result(timeout=30)
    assert alone.tokens == answers[1].tokens


SAMPLES: dict[str, tuple[Any, type[InputError], str]] = {
    "no text": ({"image": b""}, InputError, r"lacks \['text'\]"),
    "no image": ({"text": "cat"}, InputError, r"lacks \['image'\]"),
    "nothing": ({}, InputError, "lacks"),
    "a null image": ({"text": "cat", "image": None}, InputError, "lacks"),
    "an unknown key": ({"text": "cat", "image": b"", "audio": b""}, InputError, "audio"),
    "images": ({"text": "cat", "images": [b""]}, InputError, "images"),
    "an image as text": ({"text": "cat", "image": "data:"}, ImageError, "type str"),
    "an empty image": ({"text": "cat", "image": b""}, ImageError, "empty"),
    "keys of two kinds": ({"text": "cat", "image": b"", 1: 2, "x": 3}, InputError, "'1', 'x'"),
    "no mapping": ("cat", InputError, "found a str"),
    "a task that is no text": (
        {"text": "cat", "image": Image.new("RGB", (8, 8)), "task": ["answer"]},
        InputError,
        "'answer'",
    ),
    "a task that is not there": (
        {"text": "cat", "image": Image.new("RGB", (8, 8)), "task": "caption"},
        InputError,
        "'answer'",
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_that_does_not_fit_is_refused_and_its_place_given_back(
    name: str, tmp_path: Path
) -> None:
    sample, kind, reason = SAMPLES[name]
    bundle = fake_bundle(single_stream(with_inputs=True), tmp_path)
    with Engine.open(bundle, {"backend": "fake"}) as engine:
        with pytest.raises(kind, match=reason):
            engine.predict(sample)
        assert engine.queued_rows == 0
        good = {"text": "cat", "image": Image.new("RGB", (5, 9)), "task": "answer"}
        assert engine.predict(good).exit_layer == 6


def test_a_bundle_of_raw_tensors_says_so() -> None:
    with (
        Engine.open(fake_bundle(MANIFEST), {"backend": "fake"}) as engine,
        pytest.raises(InputError, match="raw tensors only"),
    ):
        engine.predict({"text": "cat"})
