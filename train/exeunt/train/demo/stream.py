"""Training batches without end: batch k depends on the seed and k alone, so a run can resume."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.entailment import cell_roles, cell_witnesses
from exeunt.train.demo.questions import Questions, load_questions, shapes_of_images
from exeunt.train.demo.scenes import (
    EMPTY,
    NUM_CELLS,
    NUM_KINDS,
    Cells,
    render_scenes,
    sample_scenes,
)
from exeunt.train.demo.statements import sample_statements
from exeunt.train.demo.templates import MAX_SUBJECTS, STATEMENT_LABELS, Statements, phrase
from exeunt.train.demo.words import LABELS, PAD_ID, encode

# A cell shows one of the kinds, a parcel, or nothing; pictures of questions have no cells.
# Classes of the auxiliary targets: what a cell shows, its role, its place, whether a witness.
CELL_CLASSES = (NUM_KINDS + 2, MAX_SUBJECTS + 1, 3, 3)
NO_CELL = -100

_CHUNK_BATCHES = 128
_STATEMENTS_PER_SCENE = 4


@dataclass(frozen=True)
class Batch:
    """Arrays of one training step; B rows, S the longest text among them."""

    pixels: NDArray[np.uint8]  # [B, 64, 64, 3]
    ids: NDArray[np.int64]  # [B, S], PAD_ID at padding
    label: NDArray[np.int64]  # [B], index into LABELS
    # Auxiliary targets of each cell, [B, 16]; NO_CELL for questions.
    cells: NDArray[np.int64]  # what the cell shows
    roles: NDArray[np.int64]  # which of the statement's kinds that is
    places: NDArray[np.int64]  # whether an X there would make the statement true
    witnesses: NDArray[np.int64]  # whether the cell makes the statement true
    shape: NDArray[np.int64]  # [B], index into SHAPES; NO_CELL for statements

    def shards(self, count: int) -> "list[Batch]":
        """Split by length of text, longest first, each padded to its own longest only."""
        lengths = (self.ids != PAD_ID).sum(axis=1)
        order = np.argsort(-lengths, kind="stable")
        parts = []
        for rows in np.array_split(order, count):
            part = Batch(**{name: value[rows] for name, value in vars(self).items()})
            parts.append(replace(part, ids=part.ids[:, : lengths[rows].max()]))
        return parts

    def known_cells(self) -> tuple[int, ...]:
        """Count the labels of each auxiliary target; at least 1, to divide by."""
        targets = (self.cells, self.roles, self.places, self.witnesses, self.shape)
        return tuple(max(1, int((target != NO_CELL).sum())) for target in targets)


def pad_ids(rows: list[list[int]]) -> NDArray[np.int64]:
    """Pad token ids to the longest row: i64[B, S]."""
    out = np.full((len(rows), max(map(len, rows))), PAD_ID, dtype=np.int64)
    for row, ids in enumerate(rows):
        out[row, : len(ids)] = ids
    return out


class TrainStream:
    """Draws batches of questions (augmented) and statements (fresh scenes)."""

    def __init__(self, seed: int, batch_size: int, question_share: float) -> None:
        self.seed = seed
        self.num_questions = round(batch_size * question_share)
        self.num_statements = batch_size - self.num_questions
        self._questions: Questions = load_questions("train")
        self._question_ids = [encode(text) for text in self._questions.text]
        self._question_labels = np.array([LABELS.index(a) for a in self._questions.answer])
        self._boxes = _shape_boxes(self._questions.images)
        self._shapes = shapes_of_images(self._questions)
        self._chunk = lru_cache(maxsize=1)(self._draw_chunk)
        self._encode = lru_cache(maxsize=200_000)(lambda key: encode(phrase(key)))

    def _draw_chunk(self, chunk: int) -> tuple[Cells, Statements, tuple[NDArray[np.int8], ...]]:
        rng = np.random.default_rng([self.seed, 1, chunk])
        count = _CHUNK_BATCHES * self.num_statements
        cells = sample_scenes(rng, max(1, count // _STATEMENTS_PER_SCENE), "train")
        table = sample_statements(rng, cells, count)
        shown = cells[table.scene]
        return (
            shown,
            table,
            (
                np.where(shown == EMPTY, CELL_CLASSES[0] - 1, shown).astype(np.int8),
                cell_roles(shown, table),
                cell_witnesses(shown, table, by_place=True),
                cell_witnesses(shown, table),
            ),
        )

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, the same one whenever it is asked for."""
        rng = np.random.default_rng([self.seed, 2, step])
        picked = rng.integers(0, len(self._questions), size=self.num_questions)
        shown, table, targets = self._chunk(step // _CHUNK_BATCHES)
        place = (step % _CHUNK_BATCHES) * self.num_statements
        rows = np.arange(place, place + self.num_statements)
        keys = [table.key(row) for row in rows.tolist()]
        unknown = np.full((self.num_questions, NUM_CELLS), NO_CELL, dtype=np.int64)
        first_statement = LABELS.index(STATEMENT_LABELS[0])
        asked = self._question_pixels(picked, rng)
        shapes = self._shapes[self._questions.image[picked]]
        cells, roles, places, witnesses = (
            np.concatenate([unknown, target[rows]]) for target in targets
        )
        return Batch(
            np.concatenate([asked, render_scenes(shown[rows], rng)]),
            pad_ids([self._question_ids[i] for i in picked] + [self._encode(k) for k in keys]),
            np.concatenate([self._question_labels[picked], table.label[rows] + first_statement]),
            cells,
            roles,
            places,
            witnesses,
            np.concatenate([np.where(shapes < 0, NO_CELL, shapes), np.full(len(rows), NO_CELL)]),
        )

    def _question_pixels(
        self, picked: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Mirror and shift the pictures: no question asks for a place or a direction."""
        image = self._questions.image[picked]
        top, bottom, left, right = self._boxes[image].T
        # The shift keeps the whole shape inside, so rolling wraps background only.
        down = np.floor(rng.random(len(image)) * (64 - bottom + top)).astype(np.int64) - top
        along = np.floor(rng.random(len(image)) * (64 - right + left)).astype(np.int64) - left
        grid = np.arange(64)
        rows = (grid[None, :] - down[:, None]) % 64
        columns = (grid[None, :] - along[:, None]) % 64
        mirrored = rng.random(len(image)) < 0.5
        columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
        pixels: NDArray[np.uint8] = self._questions.images[
            image[:, None, None], rows[:, :, None], columns[:, None, :]
        ]
        return pixels


def _shape_pixels(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the pixels that differ from the corners' colour: bool[M, 64, 64]."""
    values = images.astype(np.int16)
    # A shape can cover a corner, but not most of them.
    corners = np.stack([values[:, y, x] for y in (0, -1) for x in (0, -1)])
    background = np.median(corners, axis=0).reshape(-1, 1, 1, 3)
    marked: NDArray[np.bool_] = np.abs(values - background).sum(axis=-1) > 12
    return marked


def _shape_boxes(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the box of each picture's shape: [M, (top, bottom, left, right)]."""
    shape = _shape_pixels(images)
    boxes: list[NDArray[np.int64]] = []
    for axis in (2, 1):
        line = np.asarray(shape.any(axis=axis))
        boxes.append(line.argmax(axis=1))
        boxes.append(64 - line[:, ::-1].argmax(axis=1))
    return np.stack(boxes, axis=1).astype(np.int64)
