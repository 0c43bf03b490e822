"""Captions against a plain reading of the scene, and the vocabulary that says them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from exeunt.train.demo.scenes import EMPTY, KINDS, NUM_CELLS, PARCEL, sample_scenes
from exeunt.train.demo.templates import RELATION, VARIANTS, Statements, phrase
from exeunt.train.scenes import captions as C
from exeunt.train.scenes import words
from exeunt.train.scenes.data import DATA_SEED, load_captions, load_entailment
from exeunt.train.scenes.targets import (
    LOOKUPS,
    MAX_COUNT,
    NUM_SHOWN,
    cell_targets,
    lookup_targets,
)

CELL = st.sampled_from([EMPTY, EMPTY, 0, 1, 2, 3, PARCEL])


def plain_facts(cells: list[int]) -> tuple[list[tuple[int, int]], int, int]:
    """Return kinds with counts in their order, and the first and last object's cell."""
    objects = [place for place, kind in enumerate(cells) if kind not in (EMPTY, PARCEL)]
    kinds = sorted({cells[i] for i in objects}, key=lambda k: (-cells.count(k), cells.index(k)))
    return [(kind, cells.count(kind)) for kind in kinds], objects[0], objects[-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(CELL, min_size=NUM_CELLS, max_size=NUM_CELLS), st.integers(0, len(C.FORMS) - 1))
def test_a_caption_says_what_the_scene_shows(cells: list[int], form: int) -> None:
    if not set(cells) - {EMPTY, PARCEL}:
        cells[0] = 0
    ranked, first, last = plain_facts(cells)
    text = C.caption(C.scene_facts(np.array([cells], dtype=np.int8)), 0, form)
    for kind, count in ranked[:2]:
        name = KINDS[kind][1] if count == 1 else f"{C.NUMBERS[count]} {KINDS[kind][2]}"
        assert name in text
    if len(ranked) == 1:
        assert "nothing else" in text
    if first % 4 != last % 4:
        straight, turned = ("left", "right") if first % 4 < last % 4 else ("right", "left")
    else:
        straight, turned = "above", "below"
    assert (straight if "{relation}" in C.FORMS[form] else turned) in text.split()
    assert len(text.split()) <= C.MAX_CAPTION_WORDS


def test_references_are_of_different_forms_and_depend_on_the_scene_alone() -> None:
    cells = sample_scenes(np.random.default_rng(0), 50, "test")
    references = C.reference_captions(cells, DATA_SEED)
    assert all(len(set(texts)) == C.NUM_REFERENCES for texts in references)
    assert C.reference_captions(cells[::-1], DATA_SEED) == references[::-1]
    assert C.reference_captions(cells, DATA_SEED + 1) != references


def test_every_word_is_known_and_the_tokenizer_agrees() -> None:
    tokenizer = Tokenizer.from_str(words.tokenizer_json())
    statements = [sample.text for sample in load_entailment("test", 200)]
    captions = [text for sample in load_captions("test", 50) for text in sample.references]
    for text in (*statements, *captions, words.CAPTION_PROMPT, "Is this a zebra ?"):
        ids = words.source_ids(text.lower())
        assert tokenizer.encode(text).ids == ids
        assert (words.UNK_ID in ids) == ("zebra" in text)
        assert len(ids) <= words.MAX_SOURCE_TOKENS
    for text in captions:
        ids = [*words.word_ids(text), words.EOS_ID]
        assert len(ids) <= words.MAX_TARGET_TOKENS
        assert words.text_of(ids) == text == tokenizer.decode(ids)
    specials = [words.BOS, words.PAD, words.EOS, words.UNK]
    assert [tokenizer.token_to_id(word) for word in specials] == [0, 1, 2, 3]


def test_the_splits_are_fixed_and_balanced() -> None:
    first, again = load_entailment("calibration"), load_entailment("calibration", 30)
    assert [(s.text, s.answer) for s in again] == [(s.text, s.answer) for s in first[:30]]
    assert np.array_equal(np.asarray(first[3].image), np.asarray(again[3].image))
    answers = [sample.answer for sample in first]
    assert all(abs(answers.count(answer) / len(first) - 1 / 3) < 0.01 for answer in words.ANSWERS)
    kinds = {"exists", "count", "relation", "double_relation", "defined", "defined_twice"}
    assert {s.kind for s in first} == kinds
    with pytest.raises(ValueError, match="unknown split"):
        load_captions("validation")
    with pytest.raises(ValueError, match="count is 0"):
        load_captions("test", 0)


def test_statements_fit_the_text_lane() -> None:
    longest = phrase((10, 14, 15, 13, 0, 0, 0, 1, 1, 0, 0, 0))
    assert len(words.source_ids(longest)) <= words.MAX_SOURCE_TOKENS


def test_targets_of_a_scene() -> None:
    cells = np.full((1, 16), EMPTY, dtype=np.int8)
    cells[0, [0, 5, 10]] = [4, 4, 7]
    cells[0, 15] = PARCEL
    targets = cell_targets(cells, C.scene_facts(cells))
    assert targets.shown[0, [0, 1, 15]].tolist() == [4, NUM_SHOWN, PARCEL]
    assert targets.count[0, [0, 5, 10, 1]].tolist() == [2, 2, 1, 0]
    assert targets.rank[0, [0, 5, 10, 15]].tolist() == [1, 1, 2, 0]
    assert targets.end[0, [0, 5, 10]].tolist() == [1, 0, 2]
    directions = targets.directions[0].reshape(16, 4, NUM_SHOWN)
    assert directions[0, :, 4].tolist() == [1, 0, 1, 0]  # left of and above the other one
    assert directions[10, :, 4].tolist() == [0, 1, 0, 1]
    assert directions[10, :, PARCEL].tolist() == [1, 0, 1, 0]
    assert targets.count.max() <= MAX_COUNT


def test_lookups_point_at_what_a_statement_names_and_at_what_decides_it() -> None:
    cells = np.full((1, 16), EMPTY, dtype=np.int8)
    cells[0, [0, 5]] = [4, 7]
    cells[0, 15] = PARCEL
    row = np.zeros(1, dtype=np.int64)
    subjects = np.array([[4, 7, 1, 2, 3, 5]], dtype=np.int8)
    relation = VARIANTS.index((RELATION, 0, 0))
    left_of = Statements(
        row,
        np.array([relation], dtype=np.int8),
        subjects,
        np.zeros((1, 5), dtype=np.int8),
        row.astype(np.int8),
    )
    found = lookup_targets(cells, left_of)[0]
    names = [name for stage in LOOKUPS for name in stage]
    at = {name: np.flatnonzero(found[i]).tolist() for i, name in enumerate(names)}
    assert (at["first"], at["second"], at["third"]) == ([0], [5], [])
    assert at["certain"] == [0]
    assert at["possible"] == [0]  # the parcel is right of everything
    assert at["certain place"] == [0, 4, 8, 12]  # left of cell 5
