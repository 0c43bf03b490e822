"""Texts: what is tokenised, padded to what, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exeunt.engine import InputLimits
from exeunt.engine.bundle.inputs import TextSpec
from exeunt.engine.errors import BundleError, TextError
from exeunt.engine.inputs import TextProcessor
from tests.support.manifests import WORDS, fake_bundle, single_stream


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundle")
    fake_bundle(single_stream(with_inputs=True), root)
    return root / "tokenizer.json"


@pytest.fixture(scope="module")
def processor(tokenizer: Path) -> TextProcessor:
    return TextProcessor(TextSpec(max_tokens=10, pad_to_multiple=4, types="types"), tokenizer)


def test_a_text_is_padded_to_the_next_multiple(processor: TextProcessor) -> None:
    found = processor("what shape is in the")
    assert {name: array.dtype for name, array in found.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "types"), np.dtype(np.int64)
    )
    expected = [WORDS.index(word) for word in ("what", "shape", "is", "in", "the")]
    assert found["input_ids"].tolist() == [*expected, 0, 0, 0]
    assert found["attention_mask"].tolist() == [1] * 5 + [0] * 3
    assert found["types"].tolist() == [0] * 8


@pytest.mark.parametrize(("words", "length"), [(1, 4), (4, 4), (8, 8), (9, 10), (10, 10)])
def test_the_last_multiple_is_cut_at_the_models_limit(
    processor: TextProcessor, words: int, length: int
) -> None:
    found = processor("cat " * words)
    assert len(found["input_ids"]) == length
    assert found["attention_mask"].sum() == words


REFUSED = {
    "": "empty",
    "   \t\n ": "empty",
    "\u3000\u00a0": "empty",
    "cat " * 11: "11 tokens, this model takes 10",
    "a" * 100_000: "100000 characters, at most 4096",
    "half a pair \ud83d": "surrogate",
    "\udc00": "surrogate",
}


@pytest.mark.parametrize("text", REFUSED, ids=[f"{reason}" for reason in REFUSED.values()])
def test_a_text_that_cannot_be_used_is_refused_with_the_reason(
    processor: TextProcessor, text: str
) -> None:
    with pytest.raises(TextError, match=REFUSED[text]):
        processor(text)


@pytest.mark.parametrize("value", [None, 3, b"what shape", ["what"], {"text": "what"}, 1.5, True])
def test_what_is_no_text_is_refused(processor: TextProcessor, value: object) -> None:
    with pytest.raises(TextError, match="send a string"):
        processor(value)


def test_the_cap_on_characters_is_the_configured_one(tokenizer: Path) -> None:
    short = TextProcessor(TextSpec(max_tokens=10), tokenizer, InputLimits(max_text_chars=3))
    assert short("cat")["attention_mask"].sum() == 1
    with pytest.raises(TextError, match="4 characters, at most 3"):
        short("cats")


@given(text=st.text(st.characters() | st.characters(categories=["Cs"]), max_size=40))
def test_any_text_is_tokenised_or_refused_and_nothing_else(
    processor: TextProcessor, text: str
) -> None:
    try:
        found = processor(text)
    except TextError:
        return
    assert 1 <= found["attention_mask"].sum() <= 10


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    for content in (None, "", "{}", "not json"):
        if content is not None:
            file.write_text(content)
        with pytest.raises(BundleError, match=r"tokenizer\.json"):
            TextProcessor(TextSpec(max_tokens=10), file)
