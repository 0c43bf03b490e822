"""Training batches without end: batch k depends on the seed and k alone, so a run can resume."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.questions import Questions, load_questions
from exeunt.train.demo.scenes import (
    EMPTY,
    NUM_CELLS,
    NUM_KINDS,
    Cells,
    render_scenes,
    sample_scenes,
)
from exeunt.train.demo.statements import (
    STATEMENT_LABELS,
    Statements,
    cell_roles,
    cell_witnesses,
    phrase,
    sample_statements,
)
from exeunt.train.demo.words import LABELS, PAD_ID, encode

# A cell shows one of the kinds, a parcel, or nothing; pictures of questions have no cells.
# Classes of the auxiliary targets: what a cell shows, its role, its place, whether a witness.
CELL_CLASSES = (NUM_KINDS + 2, 4, 3, 3)
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

    def shard(self, index: int, count: int) -> "Batch":
        """Return every `count`-th row from `index` on: the same mix of questions and statements."""
        return Batch(**{name: value[index::count] for name, value in vars(self).items()})


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
        self._chunk = lru_cache(maxsize=1)(self._draw_chunk)
        self._encode = lru_cache(maxsize=200_000)(lambda key: encode(phrase(key)))

    def _draw_chunk(self, chunk: int) -> tuple[Cells, Statements]:
        rng = np.random.default_rng([self.seed, 1, chunk])
        count = _CHUNK_BATCHES * self.num_statements
        cells = sample_scenes(rng, max(1, count // _STATEMENTS_PER_SCENE), "train")
        return cells, sample_statements(rng, cells, count)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, the same one whenever it is asked for."""
        rng = np.random.default_rng([self.seed, 2, step])
        picked = rng.integers(0, len(self._questions), size=self.num_questions)
        cells, table = self._chunk(step // _CHUNK_BATCHES)
        place = (step % _CHUNK_BATCHES) * self.num_statements
        table = table.take(np.arange(place, place + self.num_statements))
        shown = cells[table.scene]
        keys = [table.key(row) for row in range(len(table))]
        unknown = np.full((self.num_questions, NUM_CELLS), NO_CELL, dtype=np.int64)
        first_statement = LABELS.index(STATEMENT_LABELS[0])
        return Batch(
            np.concatenate([self._question_pixels(picked, rng), render_scenes(shown, rng)]),
            pad_ids([self._question_ids[i] for i in picked] + [self._encode(k) for k in keys]),
            np.concatenate([self._question_labels[picked], table.label + first_statement]),
            np.concatenate([unknown, np.where(shown == EMPTY, CELL_CLASSES[0] - 1, shown)]),
            np.concatenate([unknown, cell_roles(shown, table)]),
            np.concatenate([unknown, cell_witnesses(shown, table, anything_is_x=True)]),
            np.concatenate([unknown, cell_witnesses(shown, table)]),
        )

    def _question_pixels(
        self, picked: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Flip, turn and shift the pictures: no question asks for a place or a direction."""
        image = self._questions.image[picked]
        top, bottom, left, right = self._boxes[image].T
        # The shift keeps the whole shape inside, so rolling wraps background only.
        down = np.floor(rng.random(len(image)) * (64 - bottom + top)).astype(np.int64) - top
        along = np.floor(rng.random(len(image)) * (64 - right + left)).astype(np.int64) - left
        grid = np.arange(64)
        rows = (grid[None, :] - down[:, None]) % 64
        columns = (grid[None, :] - along[:, None]) % 64
        flip = rng.random((2, len(image))) < 0.5
        rows = np.where(flip[0][:, None], rows[:, ::-1], rows)
        columns = np.where(flip[1][:, None], columns[:, ::-1], columns)
        pixels: NDArray[np.uint8] = self._questions.images[
            image[:, None, None], rows[:, :, None], columns[:, None, :]
        ]
        turned = rng.random(len(image)) < 0.5
        pixels[turned] = pixels[turned].transpose(0, 2, 1, 3)
        return pixels


def _shape_boxes(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the box of what differs from the corners' colour: [M, (top, bottom, left, right)]."""
    values = images.astype(np.int16)
    # A shape can cover a corner, but not most of them.
    corners = np.stack([values[:, y, x] for y in (0, -1) for x in (0, -1)])
    background = np.median(corners, axis=0)[:, None, None, :]
    shape = np.abs(values - background).sum(axis=-1) > 12
    boxes = []
    for axis in (2, 1):
        line = shape.any(axis=axis)
        boxes.append(line.argmax(axis=1))
        boxes.append(64 - line[:, ::-1].argmax(axis=1))
    return np.stack(boxes, axis=1).astype(np.int64)
