"""What image tokens learn of their cells early in training: targets of auxiliary losses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.entailment import PARTNERS, cell_roles, cell_witnesses
from exeunt.train.demo.scenes import EMPTY, NUM_CELLS, NUM_KINDS, PARCEL, Cells
from exeunt.train.demo.templates import RELATIONS, Statements
from exeunt.train.scenes.captions import Facts

MAX_COUNT = 8  # more are counted as this many
NUM_SHOWN = NUM_KINDS + 1  # kinds and the parcel
NUM_DIRECTIONS = len(RELATIONS) * NUM_SHOWN
# Classes of the targets with one label a cell, in the order of `CellTargets`.
NUM_CLASSES = {"shown": NUM_SHOWN + 1, "count": MAX_COUNT + 1, "rank": 3, "end": 3}
# What the decoder learns to find in the image, in two stages: the cells that show the statement's
# kinds; those that may make it true, that do, and where its first kind would
# (`exeunt.train.demo.entailment.cell_witnesses`).
LOOKUPS = (
    ("first", "second", "third"),
    ("possible", "certain", "possible place", "certain place"),
)


@dataclass(frozen=True)
class CellTargets:
    """Targets of N scenes; the image lane sees no text, so they depend on the scene alone."""

    shown: NDArray[np.int64]  # [N, 16]: the kind, the parcel, or nothing
    count: NDArray[np.int64]  # [N, 16]: how many cells show the same, 0 where nothing is
    rank: NDArray[np.int64]  # [N, 16]: 1 of the kind shown most often, 2 of the second, else 0
    end: NDArray[np.int64]  # [N, 16]: 1 the first object, 2 the last one, else 0
    # [N, 16, 4 * 17] in {0, 1}: whether the cell is left of, right of, above, below some such kind.
    directions: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64]) -> "CellTargets":
        """Return the targets of the given scenes."""
        return CellTargets(**{name: value[rows] for name, value in vars(self).items()})


def cell_targets(cells: Cells, facts: Facts) -> CellTargets:
    """Return the targets of scenes int8[N, 16] whose facts are given."""
    shown = np.where(cells == EMPTY, NUM_SHOWN, cells).astype(np.int64)
    same = (cells[:, :, None] == cells[:, None, :]).sum(axis=2)
    rank = np.where(shown == facts.most[:, None], 1, 0)
    rank = np.where(shown == facts.second[:, None], 2, rank)
    end = np.zeros_like(shown)
    rows = np.arange(len(cells))
    end[rows, facts.first_cell] = 1
    end[rows, facts.last_cell] = 2
    return CellTargets(
        shown=shown,
        count=np.where(cells == EMPTY, 0, np.minimum(same, MAX_COUNT)),
        rank=rank,
        end=end,
        directions=_directions(cells),
    )


def lookup_targets(cells: Cells, table: Statements) -> NDArray[np.float32]:
    """Return the targets f32[R, 7, 16] in {0, 1} of statements, row i about scene i."""
    roles = cell_roles(cells, table)
    witnesses = cell_witnesses(cells, table)
    places = cell_witnesses(cells, table, by_place=True)
    marks = [roles == 1, roles == 2, roles == 3]
    marks += [witnesses >= 1, witnesses == 2, places >= 1, places == 2]
    return np.stack(marks, axis=1).astype(np.float32)


def _directions(cells: Cells) -> NDArray[np.float32]:
    kinds = cells[:, :, None] == np.arange(NUM_SHOWN)[None, None, :]  # PARCEL is the last
    bits = (PARTNERS[:, :, None] >> np.arange(NUM_CELLS)) & 1  # [4, cell, partner]
    reached = np.einsum("rcp,npk->ncrk", bits.astype(np.float32), kinds.astype(np.float32)) > 0
    flat: NDArray[np.float32] = reached.reshape(len(cells), NUM_CELLS, -1).astype(np.float32)
    return flat


assert PARCEL == NUM_SHOWN - 1
