"""Labels of statements against a brute-force enumeration of every way to fill the parcels."""

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exeunt.train.demo import templates as T
from exeunt.train.demo.entailment import cell_roles, cell_witnesses, label_statements
from exeunt.train.demo.scenes import EMPTY, NUM_CELLS, NUM_KINDS, PARCEL, bucket_of, sample_scenes
from exeunt.train.demo.statements import split_statements

Key = tuple[int, ...]  # as `Statements.key` gives it
Case = tuple[list[int], Key]  # the scene's cells, and a statement


def split(key: Key) -> tuple[int, int, int, Key, Key]:
    """Take a key apart: template, quantifier, number, kinds, relations."""
    return *T.VARIANTS[key[0]], key[1 : 1 + T.MAX_SUBJECTS], key[1 + T.MAX_SUBJECTS :]


def related(i: int, j: int, relation: int) -> bool:
    (row_i, col_i), (row_j, col_j) = divmod(i, 4), divmod(j, 4)
    return (col_i < col_j, col_i > col_j, row_i < row_j, row_i > row_j)[relation]


def holds(cells: Sequence[int], key: Key) -> bool:
    template, quantifier, number, kinds, relations = split(key)
    at = [[i for i in range(NUM_CELLS) if cells[i] == kind] for kind in kinds]
    if template in (T.EXISTS, T.COUNT):
        seen = len(at[0])
        return (seen == number, seen >= number, seen <= number)[quantifier]
    if template == T.DOUBLE:
        return any(
            any(related(i, j, relations[0]) for j in at[1])
            and any(related(i, k, relations[1]) for k in at[2])
            for i in at[0]
        )

    def goes_on(cell: int, place: int) -> bool:
        return place == T.NUM_SUBJECTS[template] - 1 or any(
            related(cell, after, relations[place]) and goes_on(after, place + 1)
            for after in at[place + 1]
        )

    return any(goes_on(cell, 0) for cell in at[0])


def brute_force(cells: Sequence[int], key: Key) -> int:
    parcels = [i for i in range(NUM_CELLS) if cells[i] == PARCEL]
    results = set()
    for fill in itertools.product(range(EMPTY, NUM_KINDS), repeat=len(parcels)):
        filled = list(cells)
        for place, kind in zip(parcels, fill, strict=True):
            filled[place] = kind
        results.add(holds(filled, key))
    if results == {True}:
        return T.ENTAILMENT
    return T.CONTRADICTION if results == {False} else T.NEUTRAL


@st.composite
def scene_and_statement(draw: st.DrawFn) -> Case:
    # Six kinds only, so that the statement's kinds are often in the scene.
    cells = draw(
        st.lists(
            st.sampled_from([EMPTY, EMPTY, EMPTY, 0, 1, 2, 3, 4, 5]),
            min_size=NUM_CELLS,
            max_size=NUM_CELLS,
        )
    )
    for place in draw(st.lists(st.integers(0, NUM_CELLS - 1), max_size=2)):
        cells[place] = PARCEL
    kinds = draw(st.permutations(range(T.MAX_SUBJECTS)))
    relations = [draw(st.integers(0, 3)) for _ in range(T.MAX_SUBJECTS - 1)]
    return cells, (draw(st.integers(0, len(T.VARIANTS) - 1)), *kinds, *relations)


def one_row(key: Key) -> T.Statements:
    variant, *rest = key
    return T.Statements(
        scene=np.zeros(1, dtype=np.int64),
        variant=np.array([variant], dtype=np.int8),
        subjects=np.array([rest[: T.MAX_SUBJECTS]], dtype=np.int8),
        relations=np.array([rest[T.MAX_SUBJECTS :]], dtype=np.int8),
        label=np.zeros(1, dtype=np.int8),
    )


@given(scene_and_statement())
@settings(max_examples=300, deadline=None)
def test_label_equals_brute_force(case: Case) -> None:
    cells, key = case
    row = one_row(key)
    scene = np.array([cells], dtype=np.int8)
    label = label_statements(scene, row.variant, row.subjects, row.relations)
    assert label.tolist() == [brute_force(cells, key)]


@given(scene_and_statement())
@settings(max_examples=200, deadline=None)
def test_witnesses_decide_monotone_statements(case: Case) -> None:
    cells, key = case
    template, _, number = T.VARIANTS[key[0]]
    if template == T.COUNT or (template == T.EXISTS and number == 0):
        return
    witness = cell_witnesses(np.array([cells], dtype=np.int8), one_row(key))[0]
    label = brute_force(cells, key)
    assert (witness == 2).any() == (label == T.ENTAILMENT)
    assert (witness >= 1).any() == (label != T.CONTRADICTION)


def test_generated_statements_are_labelled_right_and_balanced() -> None:
    cells, table = split_statements("calibration", 300, seed=5)
    assert [brute_force(cells[i].tolist(), table.key(i)) for i in range(300)] == list(table.label)
    for variant in range(len(T.VARIANTS)):
        counts = np.bincount(table.label[table.variant == variant], minlength=3)
        assert counts.max() - counts.min() <= 1


def pair_by_pair(cells: Sequence[int], key: Key) -> bool:
    """Whether each relation holds for some visible pair, as a loop."""
    template, _, _, kinds, relations = split(key)
    links = [(0, 1), (0, 2)] if template == T.DOUBLE else list(itertools.pairwise(range(6)))
    return all(
        any(
            related(i, j, relations[link])
            for i in range(NUM_CELLS)
            for j in range(NUM_CELLS)
            if (cells[i], cells[j]) == (kinds[first], kinds[second])
        )
        for link, (first, second) in enumerate(links[: T.NUM_SUBJECTS[template] - 1])
    )


def test_half_of_what_is_not_entailed_holds_pair_by_pair() -> None:
    cells, table = split_statements("calibration", 600, seed=6)
    for template in (T.DOUBLE, T.CHAIN, T.LONG_CHAIN):
        rows = [i for i in range(600) if T.VARIANTS[table.variant[i]][0] == template]
        for label in (T.NEUTRAL, T.CONTRADICTION):
            found = [
                pair_by_pair(cells[i].tolist(), table.key(i))
                for i in rows
                if table.label[i] == label
            ]
            assert abs(sum(found) - len(found) / 2) <= 1
        entailed = [i for i in rows if table.label[i] == T.ENTAILMENT]
        assert all(pair_by_pair(cells[i].tolist(), table.key(i)) for i in entailed)


def test_roles_name_the_statement_kinds() -> None:
    row = one_row((11, 4, 7, 9, 2, 1, 3, 0, 2, 1, 0, 0))
    cells = np.full((1, NUM_CELLS), EMPTY, dtype=np.int8)
    cells[0, :6] = (9, 4, 7, 4, PARCEL, 1)
    assert cell_roles(cells, row)[0, :6].tolist() == [3, 1, 2, 1, 0, 0]


def test_phrases_read_well() -> None:
    def phrase(variant: int, subjects: Key, relations: Key = (0, 0, 0, 0, 0)) -> str:
        return T.phrase((variant, *subjects, 4, 5, *relations))

    assert phrase(0, (2, 0, 1, 3)) == "there is an apple"
    assert phrase(1, (0, 1, 2, 3)) == "there is no cat"
    assert phrase(2, (0, 1, 2, 3)) == "there is exactly one cat"
    assert phrase(8, (1, 0, 2, 3)) == "there are at most two dogs"
    double = phrase(10, (0, 1, 2, 3), (0, 2, 0, 0, 0))
    assert double == "a cat is left of a dog and above an apple"
    chain = phrase(11, (0, 1, 2, 3), (0, 2, 1, 0, 0))
    assert chain == "a cat is left of a dog that is above an apple that is right of a banana"
    chain = phrase(12, (0, 1, 2, 3), (0, 2, 1, 3, 2))
    assert chain == (
        "a cat is left of a dog that is above an apple that is right of a banana "
        "that is below a car that is above a tree"
    )


def test_splits_share_no_scene() -> None:
    rng = np.random.default_rng(0)
    seen = {split: sample_scenes(rng, 200, split) for split in ("train", "calibration", "test")}
    scenes = {split: {row.tobytes() for row in cells} for split, cells in seen.items()}
    assert not scenes["train"] & scenes["test"]
    assert not scenes["train"] & scenes["calibration"]
    assert not scenes["test"] & scenes["calibration"]
    assert {bucket_of(row) for row in seen["test"]} == {0}
    assert {bucket_of(row) for row in seen["calibration"]} == {1}


def test_scenes_hold_what_they_say() -> None:
    cells = sample_scenes(np.random.default_rng(1), 500, "train")
    objects = ((cells >= 0) & (cells < NUM_KINDS)).sum(axis=1)
    parcels = (cells == PARCEL).sum(axis=1)
    assert set(objects.tolist()) == set(range(3, 14))
    assert set(parcels.tolist()) == {0, 1, 2}
