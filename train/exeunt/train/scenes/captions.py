"""Captions of scenes: what a scene shows, and several ways to say it in at most 15 words.

Every caption names the two kinds shown most often with their counts, and how the first object, in
reading order, stands to the last one. So a right caption needs the whole picture.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.scenes import EMPTY, GRID, KINDS, NUM_CELLS, NUM_KINDS, PARCEL, Cells
from exeunt.train.demo.templates import RELATIONS, article

NUM_REFERENCES = 5
NO_KIND = -1
# A scene holds at most 13 objects.
NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven"),
    *("eight", "nine", "ten", "eleven", "twelve", "thirteen"),
)
# most, second: kinds with their counts; first, last: objects; parcels: how many are closed.
FORMS: tuple[str, ...] = (
    "{most} and {second} , {first} {relation} {last}",
    "{most} and {second} , {last} {turned} {first}",
    "{first} {relation} {last} , with {most} and {second}",
    "there {are} {most} and {second} , {first} {relation} {last}",
    "the image shows {most} and {second} , {last} {turned} {first}",
    "{most} , {second} and {parcels} , {first} {relation} {last}",
    "{first} is {relation} {last} among {most} and {second}",
    "{parcels} , {most} and {second} , {last} {turned} {first}",
)
MAX_CAPTION_WORDS = 15
_LEFT, _RIGHT, _ABOVE = (RELATIONS.index(name) for name in ("left of", "right of", "above"))


@dataclass(frozen=True)
class Facts:
    """What captions say of N scenes; every field is an array of length N."""

    most: NDArray[np.int64]  # the kind shown most often; of equal ones, the first in reading order
    second: NDArray[np.int64]  # the one after it; NO_KIND where all objects are of one kind
    num_most: NDArray[np.int64]
    num_second: NDArray[np.int64]
    first_cell: NDArray[np.int64]  # of the first and the last object in reading order
    last_cell: NDArray[np.int64]
    first: NDArray[np.int64]  # their kinds
    last: NDArray[np.int64]
    relation: NDArray[np.int64]  # of the first to the last one: index into RELATIONS
    num_parcels: NDArray[np.int64]


def scene_facts(cells: Cells) -> Facts:
    """Return what the captions of scenes int8[N, 16] say.

    The relation is that of the columns where they differ, else "above".
    """
    rows = np.arange(len(cells))
    shown = cells[:, None, :] == np.arange(NUM_KINDS)[None, :, None]  # [N, kinds, cells]
    counts = shown.sum(axis=2)
    earlier = NUM_CELLS - shown.argmax(axis=2)
    # Counts decide, then the place of the first one; kinds that are not shown come last.
    order = np.argsort(-(counts * 2 * NUM_CELLS + earlier), axis=1, kind="stable")
    most, second = order[:, 0], order[:, 1]
    is_object = (cells != EMPTY) & (cells != PARCEL)
    first_cell = is_object.argmax(axis=1)
    last_cell = NUM_CELLS - 1 - is_object[:, ::-1].argmax(axis=1)
    column, last_column = first_cell % GRID, last_cell % GRID
    relation = np.where(column < last_column, _LEFT, np.where(column > last_column, _RIGHT, _ABOVE))
    return Facts(
        most=most,
        second=np.where(counts[rows, second] > 0, second, NO_KIND),
        num_most=counts[rows, most],
        num_second=counts[rows, second],
        first_cell=first_cell,
        last_cell=last_cell,
        first=cells[rows, first_cell].astype(np.int64),
        last=cells[rows, last_cell].astype(np.int64),
        relation=relation,
        num_parcels=(cells == PARCEL).sum(axis=1),
    )


def caption(facts: Facts, row: int, form: int) -> str:
    """Say the facts of one scene in one form, in lower-cased words apart by blanks."""
    num_most, relation = int(facts.num_most[row]), int(facts.relation[row])
    kinds = {
        "most": _counted(num_most, int(facts.most[row])),
        "second": "nothing else",
        "first": _counted(1, int(facts.first[row])),
        "last": _counted(1, int(facts.last[row])),
    }
    if facts.second[row] != NO_KIND:
        kinds["second"] = _counted(int(facts.num_second[row]), int(facts.second[row]))
    return FORMS[form].format(
        **kinds,
        are="is" if num_most == 1 else "are",
        relation=RELATIONS[relation],
        turned=RELATIONS[relation ^ 1],  # relations stand in pairs of opposites
        parcels=_parcels(int(facts.num_parcels[row])),
    )


def reference_captions(cells: Cells, seed: int) -> list[list[str]]:
    """Return `NUM_REFERENCES` captions of each scene int8[N, 16], of different forms.

    They depend on the scene and the seed alone.
    """
    facts = scene_facts(cells)
    return [
        [caption(facts, row, form) for form in reference_forms(cells[row], seed)]
        for row in range(len(cells))
    ]


def reference_forms(cells: NDArray[np.int8], seed: int) -> list[int]:
    """Return the forms of the captions of one scene int8[16]."""
    key = zlib.crc32(np.ascontiguousarray(cells).tobytes())
    chosen = np.random.default_rng([seed, key]).permutation(len(FORMS))
    return sorted(chosen[:NUM_REFERENCES].tolist())


def _counted(number: int, kind: int) -> str:
    if number == 1:
        return f"{article(kind)} {KINDS[kind][1]}"
    return f"{NUMBERS[number]} {KINDS[kind][2]}"


def _parcels(number: int) -> str:
    return "a parcel" if number == 1 else f"{NUMBERS[number]} parcels"
