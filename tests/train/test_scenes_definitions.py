"""Defined words against a plain reading of the text."""

import re

import numpy as np
import pytest

from exeunt.train.demo.scenes import KINDS, sample_scenes
from exeunt.train.demo.statements import sample_statements
from exeunt.train.demo.templates import Statements, phrase
from exeunt.train.scenes.data import STATEMENT_SHARES
from exeunt.train.scenes.definitions import (
    ALIASES,
    Definitions,
    define,
    denoted,
    sample_definitions,
)
from exeunt.train.scenes.words import MAX_SOURCE_TOKENS, UNK_ID, source_ids

NAMES = {singular: (singular, plural) for _, singular, plural in KINDS}


@pytest.fixture(scope="module")
def table() -> Statements:
    rng = np.random.default_rng(0)
    return sample_statements(rng, sample_scenes(rng, 200, "train"), 1200, STATEMENT_SHARES)


@pytest.fixture(scope="module")
def definitions(table: Statements) -> Definitions:
    return sample_definitions(np.random.default_rng(1), table)


def resolved(text: str) -> str:
    """Put the names back in place of the words that the text defines."""
    *said, statement = text.split(" , ")
    meaning = dict(line.split(" means ") for line in said)
    for _ in meaning:
        meaning = {word: meaning.get(other, other) for word, other in meaning.items()}
    for word, name in meaning.items():
        singular, plural = NAMES[name]
        statement = re.sub(rf"\b{word}s\b", plural, statement)
        article = "an" if singular[0] in "aeiou" else "a"
        statement = re.sub(rf"\ba {word}\b", f"{article} {singular}", statement)
        statement = re.sub(rf"\b{word}\b", singular, statement)
    return statement


def test_a_text_with_its_words_put_back_is_the_statement(
    table: Statements, definitions: Definitions
) -> None:
    steps = definitions.steps
    assert 0.1 < (steps > 0).mean() < 0.25
    assert 0.3 < (steps[steps > 0] == 2).mean() < 0.7
    for row in range(len(table)):
        text = define(table.key(row), definitions.key(row))
        assert resolved(text) == phrase(table.key(row))
        assert text.count(" means ") == (0, 2, 3)[steps[row]]
        ids = source_ids(text)
        assert UNK_ID not in ids
        assert len(ids) <= MAX_SOURCE_TOKENS


def test_the_statement_itself_names_a_defined_word(
    table: Statements, definitions: Definitions
) -> None:
    for row in np.flatnonzero(definitions.steps).tolist():
        statement = define(table.key(row), definitions.key(row)).split(" , ")[-1]
        used = {word.removesuffix("s") for word in statement.split()} & set(ALIASES)
        assert len(used) == 1


def test_words_denote_what_they_are_defined_to_mean() -> None:
    cat, dog = 0, 1
    text = "zib means dax , wug means dog , dax means cat , there are two zibs"
    found = dict(zip(text.split(), denoted(text), strict=True))
    assert found["zib"] == found["dax"] == found["zibs"] == cat
    assert found["wug"] == dog
    assert [found[word] for word in ("means", "cat", "dog", "there", "two", ",")] == [-1] * 6
    assert set(denoted("there are two cats")) == {-1}
