"""Regions: what is made of them, and what is refused with which words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exeunt.engine import Engine, InputLimits
from exeunt.engine.backends.fake import FakeBackend
from exeunt.engine.errors import BundleError, InputError
from exeunt.engine.inputs import RegionsError, RegionsProcessor
from exeunt.engine.inputs.regions.boxes import Units, arranged
from exeunt.engine.inputs.regions.choice import chosen
from exeunt.engine.warm_up import warm_up_samples
from tests.support.manifests import fake_bundle, manifest, single_stream
from tests.support.regions import BUCKET, FEATURES, detected, npz, regions_parts, taking_regions

Array = NDArray[Any]
TEXT = "what is in the image"


def made(value: object, **options: Any) -> Mapping[str, Array]:
    contents = taking_regions(**options)
    assert contents.inputs.regions is not None
    return RegionsProcessor(contents, contents.inputs.regions, InputLimits())(value)


def fields(count: int = 5, **changed: object) -> dict[str, object]:
    """Return regions as arrays; None takes a field out."""
    found = detected(count, dtype="float32")
    return {"features": found["features"], "boxes": found["norm_bb"], **changed}


def test_a_file_of_uniter_becomes_what_uniter_feeds_its_model() -> None:
    found = detected(13)
    tensors = made(npz(**found, soft_labels=np.zeros((13, 4), np.float16)))
    boxes = found["norm_bb"].astype(np.float32)
    area = boxes[:, 4:5] * boxes[:, 5:]
    np.testing.assert_array_equal(tensors["region_features"], found["features"].astype("f4"))
    np.testing.assert_array_equal(tensors["region_boxes"], np.concatenate([boxes, area], axis=1))
    np.testing.assert_array_equal(tensors["region_mask"], np.ones(13, np.int64))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_arrays_and_a_file_are_the_same(dtype: str) -> None:
    found = detected(13, dtype=dtype)
    given = {"features": found["features"], "boxes": found["norm_bb"], "conf": found["conf"]}
    one, other = made(npz(**found)), made(given)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_an_engine_pads_regions_to_their_bucket(tmp_path: Path) -> None:
    bundle = fake_bundle(taking_regions(), tmp_path)
    with Engine.open(bundle, {"warm_up": False}, backend=FakeBackend()) as engine:
        tensors = engine.prepare({"regions": npz(**detected(5)), "text": TEXT})
    assert tensors["region_features"].shape == (2 * BUCKET, FEATURES)
    assert tensors["region_mask"].tolist() == [1] * 5 + [0] * 3
    assert not tensors["region_boxes"][5:].any()


def test_samples_of_one_bucket_share_batches_and_keep_their_answers(tmp_path: Path) -> None:
    bundle, backend = fake_bundle(taking_regions(), tmp_path), FakeBackend()
    samples = [{"regions": npz(**detected(5 + n % 4, n)), "text": TEXT} for n in range(16)]
    with Engine.open(bundle, {"exit_policy": None}, backend=backend) as engine:
        alone = [engine.predict(sample).logits for sample in samples]
        backend.calls.clear()
        with engine.reserve(len(samples)) as ticket:
            pending = [engine.submit(ticket, sample) for sample in samples]
        together = [future.result(timeout=20).logits for future in pending]
    np.testing.assert_array_equal(alone, together)
    assert max(rows for _, rows in backend.calls) > 1


def test_each_row_of_a_pair_has_its_own_regions(tmp_path: Path) -> None:
    pair = [npz(**detected(3, seed=1)), npz(**detected(6, seed=2))]
    tensors = made(pair, rows=2)
    assert tensors["region_features"].shape == (2, 6, FEATURES)
    assert tensors["region_mask"].tolist() == [[1] * 3 + [0] * 3, [1] * 6]
    for place, content in enumerate(pair):
        one = made(content)
        count = len(one["region_mask"])
        np.testing.assert_array_equal(tensors["region_boxes"][place, :count], one["region_boxes"])
    for wrong in (pair[0], pair[:1], [*pair, pair[0]]):
        with pytest.raises(RegionsError, match="a list of 2 `regions`"):
            made(wrong, rows=2)
    with pytest.raises(RegionsError, match=r"^regions\[1\]: there are no regions"):
        made([pair[0], fields(0)], rows=2)
    bundle = fake_bundle(taking_regions(rows=2), tmp_path)
    with Engine.open(bundle, backend=FakeBackend()) as engine:
        assert engine.predict({"regions": pair, "text": TEXT}).depth == 6


@given(
    st.integers(1, 6),
    st.sampled_from([4, 6, 7]),
    st.sampled_from([4, 6, 7]),
    st.sampled_from(["normalised", "pixels"]),
    st.sampled_from(["normalised", "pixels"]),
)
def test_every_layout_becomes_every_other(
    count: int, columns: int, wanted_columns: int, units: Units, wanted: Units
) -> None:
    sides = np.array([640, 480], np.float32)
    random = np.random.default_rng(count)
    first, lengths = (random.random((count, 2), dtype=np.float32) / 2 for _ in range(2))
    whole = {}
    for name, scale in (("normalised", np.ones(2, np.float32)), ("pixels", sides)):
        size = lengths * scale
        corners = [first * scale, first * scale + size, size]
        whole[name] = np.concatenate([*corners, size[:, :1] * size[:, 1:]], axis=1)
    boxes = arranged(whole[units][:, :columns], units, (640.0, 480.0), wanted_columns, wanted)
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, whole[wanted][:, :wanted_columns], rtol=1e-4, atol=1e-6)


def test_given_sizes_are_kept_and_the_area_is_computed_in_float32() -> None:
    boxes = detected(4)["norm_bb"].astype(np.float32)
    boxes[:, 4:] += 0.25  # as a detector that counts the last pixel, too
    found = arranged(boxes, "normalised", None, 7, "normalised")
    np.testing.assert_array_equal(found[:, :6], boxes)
    np.testing.assert_array_equal(found[:, 6], boxes[:, 4] * boxes[:, 5])


def test_the_image_size_of_a_file_turns_pixels_into_shares() -> None:
    found = detected(5, dtype="float32")
    boxes = found["norm_bb"][:, :4] * np.array([640, 480, 640, 480], np.float32)
    content = npz(features=found["features"], bbox=boxes, image_w=640, image_h=480)
    np.testing.assert_allclose(
        made(content, columns=6)["region_boxes"], found["norm_bb"], atol=1e-6
    )
    kept = made(npz(features=found["features"], bbox=boxes), columns=4, units="pixels")
    np.testing.assert_array_equal(kept["region_boxes"], boxes)


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=130),
    st.integers(1, 120),
    st.booleans(),
)
def test_the_surest_regions_are_kept(tenths: list[int], most: int, ordered: bool) -> None:
    """In files that are in order, they are UNITER's: the first ones."""
    numbers = sorted(tenths, reverse=True) if ordered else tenths
    conf = np.array(numbers, np.float16).astype(np.float32) / 10
    kept = chosen(conf, most)
    count = min(max(10, sum(number > 2 for number in numbers)), 100, most, len(numbers))
    assert len(kept) == count
    assert list(kept) == sorted(set(kept))
    if ordered:
        assert list(kept) == list(range(count))
    left = np.delete(conf, kept)
    assert not len(left) or left.max() <= conf[kept].min()


def test_without_confidences_all_regions_are_kept() -> None:
    found = detected(40)
    del found["conf"]
    assert len(made(npz(**found))["region_mask"]) == 40
    weak = detected(40) | {"conf": np.full(40, 0.1, np.float16)}
    assert len(made(npz(**weak))["region_mask"]) == 10


def poisoned(value: float) -> Array:
    array = np.ones((5, FEATURES), np.float32)
    array[3, 2] = value
    return array


def backwards() -> Array:
    boxes = detected(5)["norm_bb"]
    boxes[2, :4] = (0.5, 0.1, 0.4, 0.2)
    return boxes


PROBLEMS: dict[str, tuple[object, str]] = {
    "a number": (3, "of type int: give the bytes of an .npz file, or a mapping"),
    "an unknown field": (fields(area=1), r"have \['area'\], expected some of"),
    "no features": (fields(features=None), r"lack \['features'\]; docs/regions.md"),
    "no boxes": (fields(boxes=None), r"lack \['boxes'\]"),
    "none at all": (fields(0), "there are no regions"),
    "too many": (fields(41), "there are 41 regions, this model takes 40"),
    "NaN": (fields(features=poisoned(np.nan)), r"`features` holds nan at \[3, 2\]"),
    "infinite": (fields(features=poisoned(np.inf)), r"`features` holds inf at \[3, 2\]"),
    "a box of NaN": (
        fields(boxes=np.full((5, 4), np.nan, np.float32)),
        r"`boxes` holds nan at \[0, 0\]",
    ),
    "a confidence of NaN": (fields(conf=np.full(5, np.nan, np.float32)), r"`conf` holds nan"),
    "another detector": (
        fields(features=np.ones((5, 9), np.float32)),
        f"are 9 numbers each, this model takes {FEATURES}",
    ),
    "doubles": (fields(features=np.ones((5, FEATURES))), "`features` is float64, expected float16"),
    "one axis": (fields(features=np.ones(5, np.float32)), r"shape \[5\], expected 2 axes"),
    "fewer boxes": (
        fields(boxes=detected(4)["norm_bb"]),
        r"differ in number: \{'features': 5, 'boxes': 4\}",
    ),
    "fewer confidences": (fields(conf=np.ones(4, np.float32)), "'conf': 4"),
    "five columns": (fields(boxes=np.ones((5, 5), np.float32)), "have 5 columns, expected 4"),
    "backwards": (fields(boxes=backwards()), r"box 2 .* x2 0.3999\d* below x1 0.5"),
    "pixels": (fields(boxes=detected(5)["norm_bb"] * 640), r"expected 0 to 1: divide"),
    "pixels without a size": (fields(box_units="pixels"), "send the image's `width` and `height`"),
    "pixels of another image": (
        fields(boxes=detected(5)["norm_bb"] * 640, box_units="pixels", width=100, height=100),
        "the image that the detector saw",
    ),
    "unknown units": (fields(box_units="percent"), "'percent', expected normalised or pixels"),
    "one side": (fields(width=640), "the image's height is no number"),
    "no side": (fields(width=0, height=480), "width is 0, expected a number of pixels above 0"),
    "endless side": (fields(width=float("inf"), height=1), "width is inf"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_wrong_is_named(problem: str) -> None:
    value, says = PROBLEMS[problem]
    with pytest.raises(RegionsError, match=says):
        made(value)


def test_boxes_in_pixels_need_a_size_where_shares_are_given() -> None:
    with pytest.raises(RegionsError, match="this model takes them in pixels: send"):
        made(fields(), columns=4, units="pixels")
    sized = made(fields(width=640, height=480), columns=4, units="pixels")
    assert sized["region_boxes"].max() > 1


def test_arrays_over_the_cap_are_refused() -> None:
    contents = taking_regions()
    assert contents.inputs.regions is not None
    limits = InputLimits(max_regions_bytes=5 * (FEATURES + 6) * 4 - 1)
    process = RegionsProcessor(contents, contents.inputs.regions, limits)
    with pytest.raises(RegionsError, match="have 240 bytes, at most 239"):
        process(fields())


def test_a_model_says_what_it_takes(tmp_path: Path) -> None:
    without = fake_bundle(single_stream(with_inputs=True), tmp_path)
    with (
        Engine.open(without, backend=FakeBackend()) as engine,
        pytest.raises(InputError, match=r"takes no `regions`: send \['image', 'text'\]"),
    ):
        engine.prepare({"regions": npz(**detected(5)), "text": TEXT})
    with Engine.open(fake_bundle(taking_regions(), tmp_path), backend=FakeBackend()) as engine:
        for key in ("image", "images"):
            with pytest.raises(InputError, match=r"detector's .*`regions`; docs/regions.md"):
                engine.prepare({key: b"", "text": TEXT})
        with pytest.raises(InputError, match=r"lacks \['regions'\].*docs/regions.md"):
            engine.prepare({"text": TEXT})


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("region_features", ["R", FEATURES + 1]),
        ("region_boxes", ["R", 4]),
        ("region_boxes", ["S", 7]),
        ("region_mask", ["R", 1]),
        ("region_mask", [12]),
    ],
)
def test_tensors_that_do_not_fit_the_layout_are_refused(
    name: str, shape: list[int | str], tmp_path: Path
) -> None:
    parts = regions_parts()
    parts["tensors"][name]["shape"] = shape
    bundle = fake_bundle(manifest("regions", parts), tmp_path)
    with pytest.raises(BundleError, match=r"`inputs.regions` needs the tensors"):
        Engine.open(bundle, backend=FakeBackend())


def test_warm_up_takes_regions_for_valid() -> None:
    for sample in warm_up_samples(taking_regions(), {}):
        assert sample["region_mask"].all()
        assert sample["attention_mask"].all()
        assert not sample["region_features"].any()
