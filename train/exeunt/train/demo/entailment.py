"""Exact labels of statements, and which cells of the scene decide them.

A closed parcel hides one object of any kind, or nothing. A statement is entailed when it is true
for every way to fill the parcels, contradicted when it is false for every way, else neutral.
"""

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.scenes import GRID, NUM_CELLS, PARCEL, Cells
from exeunt.train.demo.templates import (
    AT_LEAST,
    CHAIN,
    CONTRADICTION,
    DOUBLE,
    ENTAILMENT,
    EXACTLY,
    EXISTS,
    NEUTRAL,
    RELATION,
    RELATIONS,
    VARIANTS,
    Statements,
)

_ROW, _COLUMN = np.divmod(np.arange(NUM_CELLS), GRID)
_BIT = np.left_shift(1, np.arange(NUM_CELLS)).astype(np.int32)


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
    """Label statements exactly, without listing the fills.

    Counts lie in [visible, visible + parcels] and every value is reached. Relations only gain from
    more objects: they are entailed when the visible objects alone make them true, and possible
    when distinct cells, each a parcel or the right kind, make them true.

    Args:
        cells: int8[N, 16], the scene of each statement.
        variant: int8[N], index into VARIANTS.
        subjects: int8[N, 4], distinct kinds X, Y, Z, W.
        relations: int8[N, 3].

    Returns:
        int8[N], index into STATEMENT_LABELS.
    """
    table = np.array(VARIANTS)
    template, quantifier, number = table[variant].T
    always, never = _bounds_of_counts(cells, subjects[:, 0], quantifier, number)
    related = np.flatnonzero(template >= RELATION)
    if len(related):
        chosen = cells[related], subjects[related], relations[related], template[related]
        always[related] = _witness_cells(*chosen, parcels=False).any(axis=1)
        never[related] = ~_witness_cells(*chosen, parcels=True).any(axis=1)
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


def _witness_cells(
    cells: Cells,
    subjects: NDArray[np.int8],
    relations: NDArray[np.int8],
    template: NDArray[np.int64],
    *,
    parcels: bool,
    by_place: bool = False,
) -> NDArray[np.bool_]:
    """Mark the cells that can be the pivot of the statement: bool[N, 16].

    The pivot is Y in a chain, else X. With `parcels`, a closed parcel may be anything; without,
    only visible objects count. With `by_place`, cells are judged by their place alone, whatever
    they show; and in a chain as its Z, by the last relation.
    """
    closed = (cells == PARCEL) if parcels else np.zeros(cells.shape, dtype=bool)
    x, y, z, w = (
        (((cells == subjects[:, [i]]) | closed) * _BIT).sum(axis=1).astype(np.int32)
        for i in range(4)
    )
    first, second, third = relations.T
    found = np.zeros(cells.shape, dtype=bool)
    star = template != CHAIN
    for cell in range(NUM_CELLS):
        hit_y = y & PARTNERS[first, cell]
        hit_z = z & PARTNERS[second, cell]
        pair = (hit_y != 0) & ((template != DOUBLE) | _two_cells(hit_y, hit_z))
        is_x = by_place | ((x >> cell) & 1).astype(bool)
        found[:, cell] = star & is_x & (pair | (template < RELATION))
    chain = np.flatnonzero(~star)
    if len(chain) and by_place:
        hit_w = w[chain, None] & PARTNERS[third[chain]]
        found[chain] = hit_w != 0
    elif len(chain):
        found[chain] = _chain_pivots(
            (x[chain], y[chain], z[chain], w[chain]), first[chain], second[chain], third[chain]
        )
    return found


def _two_cells(one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Say whether two bit sets have two *different* cells: one parcel is not two things."""
    same_single = (one == other) & ((one & (one - 1)) == 0)
    two: NDArray[np.bool_] = (one != 0) & (other != 0) & ~same_single
    return two


def _chain_pivots(
    sets: tuple[NDArray[np.int32], ...],
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    third: NDArray[np.int8],
) -> NDArray[np.bool_]:
    """Mark the cells that can be the Y of X `first` Y `second` Z `third` W: bool[N, 16]."""
    x, y, z, w = sets
    found = np.zeros((len(x), NUM_CELLS), dtype=bool)
    # X is left of Y where Y is right of X: the other one of the pair of relations.
    before = x[:, None] & PARTNERS[first ^ 1]
    after = w[:, None] & PARTNERS[third]
    ahead = z[:, None] & PARTNERS[second]
    for pivot in range(NUM_CELLS):
        for next_cell in range(NUM_CELLS):
            linked = ((y >> pivot) & 1 & (ahead[:, pivot] >> next_cell)).astype(bool)
            distinct = _two_cells(
                before[:, pivot] & ~_BIT[next_cell], after[:, next_cell] & ~_BIT[pivot]
            )
            found[:, pivot] |= linked & distinct
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
    template = np.array(VARIANTS)[variant, 0]
    x, y, z, w = (
        ((cells == subjects[:, [i]]) * _BIT).sum(axis=1).astype(np.int32) for i in range(4)
    )
    chain = template == CHAIN
    pairs = _some_pair(x, y, relations[:, 0])
    pairs &= _some_pair(np.where(chain, y, x), z, relations[:, 1])
    pairs &= ~chain | _some_pair(z, w, relations[:, 2])
    joined: NDArray[np.bool_] = pairs & (template >= DOUBLE)
    return joined


def _some_pair(
    one: NDArray[np.int32], other: NDArray[np.int32], relation: NDArray[np.int8]
) -> NDArray[np.bool_]:
    member = ((one[:, None] >> np.arange(NUM_CELLS)) & 1).astype(bool)
    found: NDArray[np.bool_] = (member & ((other[:, None] & PARTNERS[relation]) != 0)).any(axis=1)
    return found


def cell_roles(cells: Cells, table: Statements) -> NDArray[np.int8]:
    """Say which of the statement's kinds a cell shows: 0 none, 1 X, 2 Y, 3 Z, 4 W; int8[N, 16]."""
    template = np.array(VARIANTS)[table.variant, 0]
    used = template[:, None] >= np.array([EXISTS, RELATION, DOUBLE, CHAIN])
    roles = np.zeros(cells.shape, dtype=np.int8)
    for place in range(4):
        shows = (cells == table.subjects[:, [place]]) & used[:, [place]]
        roles[shows] = place + 1
    return roles


def cell_witnesses(cells: Cells, table: Statements, *, by_place: bool = False) -> NDArray[np.int8]:
    """Say of each cell if it is the statement's pivot: 0 never, 1 if filled so, 2 certainly.

    The pivot is Y in a chain, else X. With `by_place`, say whether an X in that place would be,
    whatever the cell shows, and in a chain whether a Z there would have its W; int8[N, 16].
    """
    template = np.array(VARIANTS)[table.variant, 0]
    sure, possible = (
        _witness_cells(
            cells,
            table.subjects,
            table.relations,
            template,
            parcels=parcels,
            by_place=by_place,
        )
        for parcels in (False, True)
    )
    return sure.astype(np.int8) + possible
