"""The model and its sequential oracle against what the official code computed, sample by sample."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from exeunt.export.families.ofa.checkpoint import load_model
from exeunt.export.families.ofa.model import Context, OfaModel
from exeunt.export.families.ofa.positions import token_bucket
from tests.support.ofa import GOLDENS, MAX_LEN, Arrays, golden_expected, golden_inputs
from tests.support.ofa_sequential import (
    FILLS,
    NEVER,
    Generated,
    LaneRun,
    generate,
    mue_threshold,
    walk_lane,
)

HIDDEN, LOGITS = 1e-4, 2e-4
Sample = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def model() -> OfaModel:
    return load_model(GOLDENS)


@pytest.fixture(scope="module")
def expected() -> Arrays:
    return golden_expected()


@pytest.fixture(scope="module")
def inputs() -> list[Sample]:
    """Each sample's image and text, without padding."""
    raw = {name: torch.from_numpy(array) for name, array in golden_inputs().items()}
    lengths = raw["attention_mask"].sum(1).tolist()
    return [
        (raw["patch_images"][row : row + 1], raw["src_tokens"][row : row + 1, :length])
        for row, length in enumerate(lengths)
    ]


def encode(
    model: OfaModel, sample: Sample, image: float, text: float
) -> tuple[LaneRun, LaneRun, Context]:
    pixels, tokens = sample
    words = model.encoder.embed_text(tokens, torch.ones_like(tokens))
    lanes = (
        walk_lane(model, model.encoder.embed_image(pixels), image),
        walk_lane(model, words, text),
    )
    context = model.context(lanes[0].states[-1], lanes[1].states[-1], words.mask)
    return *lanes, context


def close(found: torch.Tensor, wanted: NDArray[Any], tolerance: float) -> None:
    np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=0)


def test_the_stem_is_the_official_one(
    model: OfaModel, inputs: list[Sample], expected: Arrays
) -> None:
    features = model.encoder.embed_images(inputs[0][0])
    wanted = expected["resnet_features"]
    close(features[0].T.reshape(wanted.shape), wanted, HIDDEN)


def test_text_distances_have_the_official_buckets(model: OfaModel, expected: Arrays) -> None:
    places = torch.arange(40)
    found = token_bucket(places[:, None] - places[None, :], model.config.token_bucket_size)
    np.testing.assert_array_equal(found, expected["token_rp_bucket_corner"])


@pytest.mark.parametrize("fixed", [False, True], ids=["official", "relposfix"])
def test_lanes_at_full_depth(
    model: OfaModel,
    inputs: list[Sample],
    expected: Arrays,
    fixed: bool,
    tmp_path: Path,
) -> None:
    suffix = ""
    if fixed:
        (tmp_path / "model.pt").symlink_to(GOLDENS / "checkpoint_mue.pt")
        (tmp_path / "export.json").write_text('{"image_relative_bias": true}')
        model, suffix = load_model(tmp_path), "_relposfix"
    for row, sample in enumerate(inputs):
        image, text, context = encode(model, sample, NEVER, NEVER)
        length = sample[1].shape[1]
        wanted = expected[f"enc_hidden_img{suffix}"][row]
        close(torch.cat(image.states), wanted, HIDDEN)
        close(torch.cat(text.states), expected["enc_hidden_txt"][row, :, :length], HIDDEN)
        cosines = torch.tensor(image.cosines)
        close(cosines, expected[f"enc_cos_img{suffix}"][row], HIDDEN)
        close(torch.tensor(text.cosines), expected["enc_cos_txt"][row], HIDDEN)
        joined = expected[f"encoder_out{suffix}"][row, : context.hidden.shape[1]]
        close(context.hidden[0], joined, HIDDEN)


def test_greedy_text_at_full_depth(model: OfaModel, inputs: list[Sample], expected: Arrays) -> None:
    for row, sample in enumerate(inputs):
        context = encode(model, sample, NEVER, NEVER)[2]
        run = generate(model, context, MAX_LEN)
        check_tokens(run, expected, "", row)
        check_states(run, expected, "", row)


@pytest.mark.parametrize("variant", FILLS)
@pytest.mark.parametrize("place", [0, 1])
def test_exits_and_tokens(
    model: OfaModel,
    inputs: list[Sample],
    expected: Arrays,
    place: int,
    variant: str,
) -> None:
    at = f"_t{place + 1}"
    image_at, text_at, decoder_at = expected["thresholds_img_txt_dec"][place].tolist()
    threshold = partial(mue_threshold, threshold=decoder_at, max_len=MAX_LEN)
    close(
        torch.tensor([threshold(step) for step in range(MAX_LEN + 1)]),
        expected[f"dec_threshold_per_step{at}"],
        1e-6,
    )
    for row, sample in enumerate(inputs):
        image, text, context = encode(model, sample, image_at, text_at)
        found = [image.exit_layer, text.exit_layer]
        assert found == expected[f"enc_exit_img_txt{at}"][row].tolist()
        joined = expected[f"encoder_out{at}"][row, : context.hidden.shape[1]]
        close(context.hidden[0], joined, HIDDEN)
        run = generate(model, context, MAX_LEN, threshold, FILLS[variant])
        check_tokens(run, expected, f"{at}{variant}", row)
        if not variant:
            check_states(run, expected, at, row)


def check_tokens(run: Generated, expected: Arrays, suffix: str, row: int) -> None:
    tokens, exits = expected[f"dec_tokens{suffix}"][row], expected[f"dec_exit{suffix}"][row]
    steps = int((tokens >= 0).sum())
    assert run.tokens == tokens[:steps].tolist()
    assert run.exits == exits[:steps].tolist()
    for step, cosines in enumerate(run.cosines):
        wanted = expected[f"dec_cos{suffix}"][row, step, : len(cosines)]
        close(torch.tensor(cosines), wanted, HIDDEN)


def check_states(run: Generated, expected: Arrays, suffix: str, row: int) -> None:
    for step, (logits, states) in enumerate(zip(run.logits, run.hidden, strict=True)):
        close(logits, expected[f"dec_logits{suffix}"][row, step], LOGITS)
        wanted = expected[f"dec_hidden{suffix}"][row, step, : len(states)]
        close(torch.stack(states), wanted, HIDDEN)
