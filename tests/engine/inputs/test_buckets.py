"""Length buckets: raw samples of nearly one size share batches, and no answer changes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exeunt.engine import Engine
from exeunt.engine.bundle.manifest import BucketSpec, Manifest
from exeunt.engine.errors import TensorError
from exeunt.engine.inputs.tensors import TensorChecker
from tests.engine.golden_manifests import uniter_nlvr2
from tests.support.manifests import fake_bundle
from tests.support.packed import attending, ragged
from tests.support.scripted import ScriptedBackend

Array = NDArray[Any]


def with_buckets(contents: Manifest, **buckets: BucketSpec) -> Manifest:
    return Manifest.model_validate(
        {**contents.model_dump(), "buckets": {k: v.model_dump() for k, v in buckets.items()}}
    )


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_bucket_pads_to_its_own_sizes(multiple: int, most: int) -> None:
    bucket = BucketSpec(multiple=multiple, most=most)
    sizes = bucket.sizes()
    assert list(sizes) == sorted({bucket.padded(size) for size in range(1, most + 1)})
    for size in range(1, most + 1):
        assert bucket.padded(size) == min(end for end in sizes if end >= size)


def test_tensors_are_padded_with_zeros_whatever_axes_they_have() -> None:
    buckets = {"R": BucketSpec(multiple=4, most=10), "S": BucketSpec(multiple=8, most=64)}
    checker = TensorChecker(with_buckets(uniter_nlvr2(), **buckets))
    sample: dict[str, Array] = {
        "input_ids": np.ones(5, np.int64),
        "position_ids": np.ones(5, np.int64),
        "img_feat": np.ones((2, 9, 64), np.float32),
        "img_pos_feat": np.ones((2, 9, 7), np.float32),
        "img_type_ids": np.ones((2, 9), np.int64),
        "attn_masks": np.ones((2, 14), np.int64),
        "gather_index": np.ones((2, 14), np.int64),
    }
    padded = checker.sample(sample)
    _, batch = checker.batch({name: array[None] for name, array in sample.items()})
    shapes = {name: array.shape for name, array in padded.items()}
    assert shapes["input_ids"] == (5,)
    assert shapes["img_feat"] == (2, 10, 64)
    assert shapes["attn_masks"] == (2, 16)
    for name, array in sample.items():
        np.testing.assert_array_equal(batch[name][0], padded[name])
        inside = tuple(slice(size) for size in array.shape)
        np.testing.assert_array_equal(padded[name][inside], array)
        assert padded[name].sum() == array.sum()


def test_a_size_beyond_the_last_bucket_is_refused() -> None:
    contents, scripts = attending()
    bundle = fake_bundle(with_buckets(contents, T=BucketSpec(multiple=4, most=8)))
    with Engine.open(bundle, backend=ScriptedBackend(scripts)) as engine:
        (sample,) = ragged([9])
        with engine.reserve() as ticket, pytest.raises(TensorError, match=r"T is 9.*takes 8"):
            engine.submit_tensors(ticket, sample)
        assert engine.queued_rows == 0


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_samples_of_one_bucket_share_batches_and_keep_their_answers(layout: str) -> None:
    contents, scripts = attending()
    samples = ragged([5, 6, 7, 8, 1, 3])
    sizes: list[tuple[int, ...]] = []

    def noting(inputs: dict[str, Array]) -> dict[str, Array]:
        sizes.append(inputs["input.tokens"].shape[:2])
        return dict(scripts["embed"](inputs))

    def answers(bundle_manifest: Manifest) -> list[Array]:
        backend = ScriptedBackend({**scripts, "embed": noting})
        bundle = fake_bundle(bundle_manifest)
        config = {"layout": layout, "warm_up": False}
        with Engine.open(bundle, config, backend=backend) as engine:
            with engine.reserve(len(samples)) as ticket:
                futures = [engine.submit_tensors(ticket, sample) for sample in samples]
            return [future.result(timeout=20).logits for future in futures]

    plain = answers(contents)
    sizes.clear()
    bucketed = answers(with_buckets(contents, T=BucketSpec(multiple=4, most=64)))
    np.testing.assert_array_equal(plain, bucketed)
    assert {tokens for _, tokens in sizes} == {4, 8}


def test_buckets_of_a_size_that_no_tensor_has_are_refused() -> None:
    contents, _ = attending()
    with pytest.raises(ValueError, match=r"names the sizes \['S'\]"):
        with_buckets(contents, S=BucketSpec(multiple=4, most=8))


def test_an_engine_is_warmed_up_at_the_largest_bucket() -> None:
    contents, scripts = attending()
    bundle = fake_bundle(with_buckets(contents, T=BucketSpec(multiple=4, most=10)))
    with Engine.open(bundle, {"layout": "packed"}, backend=ScriptedBackend(scripts)) as engine:
        assert engine.costs is not None
        assert engine.slot_bytes == 10 * 16 * 4
