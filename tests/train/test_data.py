"""The splits: sizes, labels, disjointness, and the tokenizer that ships beside them."""

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer

from exeunt.train.demo.data import Sample, load_split
from exeunt.train.demo.questions import held_back_images, load_questions, shapes_of_images
from exeunt.train.demo.words import LABELS, MAX_TOKENS, UNK_ID, encode, tokenizer_json, vocabulary


@pytest.fixture(scope="module")
def test_split() -> Sequence[Sample]:
    return load_split("test")


def test_the_test_split_is_whole(test_split: Sequence[Sample]) -> None:
    kinds = [sample.kind for sample in test_split]
    assert sum(kind.startswith("question/") for kind in kinds) == 9673
    assert sum(kind.startswith("statement/") for kind in kinds) == 2000
    assert {sample.label for sample in test_split} == set(LABELS)
    assert all(sample.image.size == (64, 64) for sample in test_split)
    assert all(sample.image.mode == "RGB" for sample in test_split)


def test_the_test_split_is_the_same_every_time(test_split: Sequence[Sample]) -> None:
    again = load_split("test", questions=False)
    first = [sample for sample in test_split if sample.kind.startswith("statement/")]
    assert [(s.text, s.label, s.kind) for s in again] == [(s.text, s.label, s.kind) for s in first]
    assert all(
        np.array_equal(np.asarray(a.image), np.asarray(b.image))
        for a, b in zip(again[:50], first[:50], strict=True)
    )


def test_held_back_questions_share_no_image_with_training() -> None:
    held = held_back_images(4000)
    assert len(held) == 400
    calibration, train = load_questions("calibration"), load_questions("train")
    assert (len(calibration.images), len(train.images)) == (400, 3600)
    assert len(calibration) + len(train) == 38575


def test_shapes_follow_from_the_questions() -> None:
    questions = load_questions("calibration")
    shapes = shapes_of_images(questions)
    told = {
        (int(image), answer)
        for image, answer in zip(questions.image, questions.answer, strict=True)
        if answer in ("circle", "rectangle", "triangle")
    }
    assert told
    assert all(("circle", "rectangle", "triangle")[shapes[image]] == s for image, s in told)


def test_the_tokenizer_agrees_with_training(test_split: Sequence[Sample]) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json())
    texts = sorted({sample.text for sample in test_split})
    assert [e.ids for e in tokenizer.encode_batch(texts)] == [encode(text) for text in texts]
    assert not any(UNK_ID in encode(text) for text in texts)
    assert max(len(encode(text)) for text in texts) <= MAX_TOKENS
    assert encode("Is there a CAT, or a xylophone?")[-1] == vocabulary()["?"]
    assert tokenizer.encode("A CAT, xylophone?").ids == encode("A CAT, xylophone?")


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        load_split("dev")
    with pytest.raises(ValueError, match="from 0 to 2000"):
        load_split("test", num_statements=2001)


def test_the_data_needs_no_torch() -> None:
    code = "import sys, exeunt.train.demo.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
