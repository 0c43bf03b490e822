"""Training batches without end: batch k depends on the seed and k alone, so a run can resume."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.scenes import Cells, render_scenes, sample_scenes
from exeunt.train.demo.statements import sample_statements
from exeunt.train.demo.templates import STATEMENT_LABELS, Statements
from exeunt.train.scenes.captions import FORMS, caption, scene_facts
from exeunt.train.scenes.data import STATEMENT_SHARES
from exeunt.train.scenes.definitions import Key, define, denoted, sample_definitions
from exeunt.train.scenes.targets import CellTargets, cell_targets, lookup_targets
from exeunt.train.scenes.words import (
    ANSWER_OF_LABEL,
    BOS_ID,
    CAPTION_PROMPT,
    EOS_ID,
    PAD_ID,
    source_ids,
    word_ids,
)

_CHUNK_BATCHES = 64

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class TextRows:
    """Rows of one task; each is about one of the batch's images."""

    image: Ids  # [R], which of the batch's images
    text: Ids  # [R], which of the sources
    source: Ids  # [U, S]; PAD_ID at padding
    target: Ids  # [R, T]: the words to generate and the end; PAD_ID at padding

    @property
    def num_tokens(self) -> int:
        """Count the tokens to generate."""
        return int((self.target != PAD_ID).sum())

    @property
    def previous(self) -> Ids:
        """Return what the decoder reads: the beginning, then the target one step late."""
        first = np.full_like(self.target[:, :1], BOS_ID)
        return np.concatenate([first, self.target[:, :-1]], axis=1)

    def of_images(self, first: int, last: int) -> "TextRows":
        """Return the rows about the images `first` to `last - 1`, which then count from 0."""
        rows = np.flatnonzero((self.image >= first) & (self.image < last))
        used, text = np.unique(self.text[rows], return_inverse=True)
        return TextRows(
            self.image[rows] - first,
            text,
            _trimmed(self.source[used]),
            _trimmed(self.target[rows]),
        )


@dataclass(frozen=True)
class Batch:
    """Arrays of one training step: images, and what is said of them in both tasks."""

    pixels: NDArray[np.uint8]  # [N, 64, 64, 3]
    cells: CellTargets
    entailment: TextRows
    captions: TextRows
    lookups: NDArray[np.float32]  # [R, 7, 16], of the entailment's rows; see `lookup_targets`
    denoted: Ids  # [R, S], of the entailment's words: the kind that a defined one stands for, or -1

    def shards(self, count: int) -> "list[Batch]":
        """Split by images, each part padded to its own longest texts only."""
        parts = []
        for images in np.array_split(np.arange(len(self.pixels)), count):
            first, last = int(images[0]), int(images[-1]) + 1
            rows = (self.entailment.image >= first) & (self.entailment.image < last)
            entailment = self.entailment.of_images(first, last)
            parts.append(
                Batch(
                    self.pixels[first:last],
                    self.cells.take(images),
                    entailment,
                    self.captions.of_images(first, last),
                    self.lookups[rows],
                    self.denoted[rows, : entailment.source.shape[1]],
                )
            )
        return parts


class TrainStream:
    """Draws fresh scenes, each with a few statements and a few captions.

    In a decomposed encoder the image's states serve all of them.
    """

    def __init__(
        self, seed: int, num_scenes: int, statements_a_scene: int, captions_a_scene: int
    ) -> None:
        self.seed = seed
        self.num_scenes = num_scenes
        self.statements_a_scene = statements_a_scene
        self.captions_a_scene = captions_a_scene
        self._chunk = lru_cache(maxsize=1)(self._draw_chunk)
        self._statement = lru_cache(maxsize=200_000)(_statement)
        self._answer_ids = [
            [*word_ids(ANSWER_OF_LABEL[label]), EOS_ID] for label in STATEMENT_LABELS
        ]
        self._prompt_ids = source_ids(CAPTION_PROMPT)

    def _draw_chunk(self, chunk: int) -> tuple[Cells, Statements]:
        rng = np.random.default_rng([self.seed, 1, chunk])
        cells = sample_scenes(rng, _CHUNK_BATCHES * self.num_scenes, "train")
        count = len(cells) * self.statements_a_scene
        table = sample_statements(rng, cells, count, STATEMENT_SHARES)
        # Rows about one scene stand together; scenes stand in no order already.
        return cells, table.take(np.argsort(table.scene, kind="stable"))

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, the same one whenever it is asked for."""
        rng = np.random.default_rng([self.seed, 2, step])
        cells, table = self._chunk(step // _CHUNK_BATCHES)
        first = (step % _CHUNK_BATCHES) * self.num_scenes
        last = first + self.num_scenes
        begin, end = np.searchsorted(table.scene, [first, last])
        statements = table.take(np.arange(begin, end))
        shown = cells[first:last]
        facts = scene_facts(shown)
        definitions = sample_definitions(rng, statements)
        texts = [
            self._statement(statements.key(row), definitions.key(row))
            for row in range(len(statements))
        ]
        image = np.repeat(np.arange(self.num_scenes), self.captions_a_scene)
        forms = np.argsort(rng.random((self.num_scenes, len(FORMS))), axis=1)
        forms = forms[:, : self.captions_a_scene].ravel()
        captions = [
            [*word_ids(caption(facts, int(row), int(form))), EOS_ID]
            for row, form in zip(image, forms, strict=True)
        ]
        return Batch(
            pixels=render_scenes(shown, rng),
            cells=cell_targets(shown, facts),
            entailment=TextRows(
                statements.scene - first,
                np.arange(len(statements)),
                pad_ids([ids for ids, _ in texts]),
                pad_ids([self._answer_ids[label] for label in statements.label]),
            ),
            captions=TextRows(
                image, np.zeros_like(image), pad_ids([self._prompt_ids]), pad_ids(captions)
            ),
            lookups=lookup_targets(cells[statements.scene], statements),
            denoted=pad_ids([kinds for _, kinds in texts], -1),
        )


def _statement(statement: Key, definition: Key) -> tuple[list[int], list[int]]:
    """Return a text's ids, and of each the kind that it stands for, or -1."""
    text = define(statement, definition)
    return source_ids(text), [-1, *denoted(text), -1]


def pad_ids(rows: list[list[int]], padding: int = PAD_ID) -> Ids:
    """Pad token ids to the longest row: i64[R, S]."""
    out = np.full((len(rows), max(map(len, rows))), padding, dtype=np.int64)
    for row, ids in enumerate(rows):
        out[row, : len(ids)] = ids
    return out


def _trimmed(ids: Ids) -> Ids:
    longest = int((ids != PAD_ID).sum(axis=1).max(initial=1))
    return ids[:, :longest]
