"""Exact labels of statements, and which cells of the scene decide them.

A closed parcel hides one object of any kind, or nothing. A statement is entailed when it is true
for every way to fill the parcels, contradicted when it is false for every way, else neutral.

Every statement of relations is a path of kinds: "X left of Y that is above Z" is X - Y - Z, and
"X left of Y and above Z" is Y - X - Z. Such a statement is true when the scene holds the path.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.scenes import EMPTY, GRID, NUM_CELLS, PARCEL, Cells
from exeunt.train.demo.templates import (
    AT_LEAST,
    CONTRADICTION,
    DOUBLE,
    ENTAILMENT,
    EXACTLY,
    EXISTS,
    NEUTRAL,
    NUM_SUBJECTS,
    RELATION,
    RELATIONS,
    VARIANTS,
    Statements,
)

_ROW, _COLUMN = np.divmod(np.arange(NUM_CELLS), GRID)
_BIT = np.left_shift(1, np.arange(NUM_CELLS)).astype(np.int32)
_TEMPLATE = np.array(VARIANTS)[:, 0]


def _partners(relation: int) -> NDArray[np.int32]:
    """Return, for each cell i, the bit set of the cells j such that i is `relation` j."""
    axis = _COLUMN if relation < 2 else _ROW
    first, second = axis[:, None], axis[None, :]
    holds = first < second if relation in (0, 2) else first > second
    bits: NDArray[np.int32] = (holds * _BIT[None, :]).sum(axis=1).astype(np.int32)
    return bits


PARTNERS = np.stack([_partners(relation) for relation in range(len(RELATIONS))])  # [4, 16]


def label_statements(
    cells: Cells,
    variant: NDArray[np.int8],
    subjects: NDArray[np.int8],
    relations: NDArray[np.int8],
) -> NDArray[np.int8]:
    """Label statements exactly.

    Counts lie in [visible, visible + parcels] and every value is reached. Relations only gain from
    more objects: they are entailed when the visible objects alone make them true, and possible
    when one of the ways to fill the parcels with the statement's own kinds does.

    Args:
        cells: int8[N, 16], the scene of each statement.
        variant: int8[N], index into VARIANTS.
        subjects: int8[N, MAX_SUBJECTS], distinct kinds.
        relations: int8[N, MAX_SUBJECTS - 1].

    Returns:
        int8[N], index into STATEMENT_LABELS.
    """
    template, quantifier, number = np.array(VARIANTS)[variant].T
    always, never = _bounds_of_counts(cells, subjects[:, 0], quantifier, number)
    for kind in range(RELATION, len(NUM_SUBJECTS)):
        rows = np.flatnonzero(template == kind)
        chosen = cells[rows], subjects[rows], relations[rows]
        sure = _pivots(kind, *chosen).any(axis=1)
        always[rows], never[rows] = sure, False
        unsure = rows[~sure]
        chosen = cells[unsure], subjects[unsure], relations[unsure]
        never[unsure] = ~_possible_pivots(kind, *chosen).any(axis=1)
    return np.where(always, ENTAILMENT, np.where(never, CONTRADICTION, NEUTRAL)).astype(np.int8)


def _bounds_of_counts(
    cells: Cells,
    kind: NDArray[np.int8],
    quantifier: NDArray[np.int64],
    number: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    low = (cells == kind[:, None]).sum(axis=1)
    high = low + (cells == PARCEL).sum(axis=1)
    always = np.select(
        [quantifier == EXACTLY, quantifier == AT_LEAST],
        [(low == number) & (high == number), low >= number],
        high <= number,
    )
    never = np.select(
        [quantifier == EXACTLY, quantifier == AT_LEAST],
        [(low > number) | (high < number), high < number],
        low > number,
    )
    return always, never


def _path(
    template: int, subjects: NDArray[np.int8], relations: NDArray[np.int8]
) -> tuple[NDArray[np.int8], NDArray[np.int8], int]:
    """Return a statement's path: kinds int8[N, K], relations int8[N, K - 1], the pivot's place.

    The pivot is where the two ends of the path meet: X, in a chain the last kind of its first half.
    """
    count = NUM_SUBJECTS[template]
    kinds, links = subjects[:, :count], relations[:, : count - 1]
    if template != DOUBLE:
        return kinds, links, (count - 1) // 2
    # X is left of Y where Y is right of X: the other one of the pair of relations.
    turned = np.stack([links[:, 0] ^ 1, links[:, 1]], axis=1)
    return kinds[:, [1, 0, 2]], turned, 1


def _linked(targets: NDArray[np.bool_], relation: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Mark the cells that are `relation` one of the targets: bool[N, 16]."""
    bits = (targets * _BIT).sum(axis=1).astype(np.int32)
    marked: NDArray[np.bool_] = (PARTNERS[relation] & bits[:, None]) != 0
    return marked


def _suffix(
    cells: Cells, kinds: NDArray[np.int8], links: NDArray[np.int8], start: int
) -> NDArray[np.bool_]:
    """Mark the places from which the path's rest holds, whatever they show: bool[N, 16]."""
    rest = np.ones(cells.shape, dtype=bool)
    for place in range(kinds.shape[1] - 1, start, -1):
        rest = _linked((cells == kinds[:, [place]]) & rest, links[:, place - 1])
    return rest


def _pivots(
    template: int,
    cells: Cells,
    subjects: NDArray[np.int8],
    relations: NDArray[np.int8],
    *,
    by_place: bool = False,
) -> NDArray[np.bool_]:
    """Mark the cells that are the pivot of a path of visible objects: bool[N, 16].

    With `by_place`, a chain's mark is that the place after the pivot has its rest of the path, a
    shorter path's that the pivot could stand there; both whatever the cell shows.
    """
    if template == EXISTS:
        shown: NDArray[np.bool_] = (cells == subjects[:, [0]]) | by_place
        return shown
    kinds, links, pivot = _path(template, subjects, relations)
    if by_place and template > DOUBLE:
        return _suffix(cells, kinds, links, pivot + 1)
    before = _suffix(cells, kinds[:, ::-1], links[:, ::-1] ^ 1, kinds.shape[1] - 1 - pivot)
    held = before & _suffix(cells, kinds, links, pivot)
    found: NDArray[np.bool_] = held if by_place else held & (cells == kinds[:, [pivot]])
    return found


def _possible_pivots(
    template: int,
    cells: Cells,
    subjects: NDArray[np.int8],
    relations: NDArray[np.int8],
    *,
    by_place: bool = False,
) -> NDArray[np.bool_]:
    """Mark the cells that are the pivot for one of the ways to fill the parcels: bool[N, 16]."""
    parcels = (cells == PARCEL).sum(axis=1)
    found = np.zeros(cells.shape, dtype=bool)
    for count in np.unique(parcels).tolist():
        rows = np.flatnonzero(parcels == count)
        # Each parcel of a row in turn: [count, rows].
        place = np.nonzero(cells[rows] == PARCEL)[1].reshape(len(rows), count).T
        chosen, links = subjects[rows], relations[rows]
        filled, marked = cells[rows].copy(), np.zeros((len(rows), NUM_CELLS), dtype=bool)
        for fill in itertools.product(range(-1, NUM_SUBJECTS[template]), repeat=count):
            for parcel, subject in zip(place, fill, strict=True):
                filled[np.arange(len(rows)), parcel] = EMPTY if subject < 0 else chosen[:, subject]
            marked |= _pivots(template, filled, chosen, links, by_place=by_place)
        found[rows] = marked
    return found


def holds_in_pairs(
    cells: Cells,
    variant: NDArray[np.int8],
    subjects: NDArray[np.int8],
    relations: NDArray[np.int8],
) -> NDArray[np.bool_]:
    """Say whether each relation of a statement holds for *some* visible pair: bool[N].

    A double or chained relation that does so without being entailed can only be told by finding
    that the pairs do not share their middle object. False for other templates.
    """
    template = _TEMPLATE[variant]
    joined = np.zeros(len(cells), dtype=bool)
    for kind in range(DOUBLE, len(NUM_SUBJECTS)):
        rows = np.flatnonzero(template == kind)
        kinds, links, _ = _path(kind, subjects[rows], relations[rows])
        held = np.ones(len(rows), dtype=bool)
        for place in range(links.shape[1]):
            after = _linked(cells[rows] == kinds[:, [place + 1]], links[:, place])
            held &= ((cells[rows] == kinds[:, [place]]) & after).any(axis=1)
        joined[rows] = held
    return joined


def cell_roles(cells: Cells, table: Statements) -> NDArray[np.int8]:
    """Say which of the statement's kinds a cell shows: 0 none, 1 the first, ...; int8[N, 16]."""
    used = np.array(NUM_SUBJECTS)[_TEMPLATE[table.variant]]
    roles = np.zeros(cells.shape, dtype=np.int8)
    for place in range(max(NUM_SUBJECTS)):
        shows = (cells == table.subjects[:, [place]]) & (used > place)[:, None]
        roles[shows] = place + 1
    return roles


def cell_witnesses(cells: Cells, table: Statements, *, by_place: bool = False) -> NDArray[np.int8]:
    """Say of each cell if it is the statement's pivot: 0 never, 1 if filled so, 2 certainly.

    The pivot is X, in a chain the last kind of its first half. With `by_place`, say whether an X in
    that place would be, whatever the cell shows; in a chain, whether the kind after the pivot would
    have its rest of the chain there; int8[N, 16].
    """
    # Counts are about their X alone, like "there is an X".
    template = np.where(_TEMPLATE[table.variant] < RELATION, EXISTS, _TEMPLATE[table.variant])
    marks = np.zeros(cells.shape, dtype=np.int8)
    for kind in np.unique(template).tolist():
        rows = np.flatnonzero(template == kind)
        chosen = cells[rows], table.subjects[rows], table.relations[rows]
        for pivots in (_pivots, _possible_pivots):
            marks[rows] += pivots(kind, *chosen, by_place=by_place)
    return marks
