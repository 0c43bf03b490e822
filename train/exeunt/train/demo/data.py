"""The demo model's evaluation data, without torch: questions and statements as samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from exeunt.train.demo.questions import load_questions, question_kind
from exeunt.train.demo.scenes import render_scenes
from exeunt.train.demo.statements import split_statements
from exeunt.train.demo.templates import STATEMENT_LABELS, TEMPLATES, VARIANTS, phrase

SPLITS = ("train", "calibration", "test")
DATA_SEED = 7
# Statements of each split: fixed, one scene each.
NUM_STATEMENTS = {"train": 2000, "calibration": 4000, "test": 2000}


@dataclass(frozen=True)
class Sample:
    """One input with its right answer."""

    image: Image.Image  # RGB, 64 x 64; questions about one image share it
    text: str
    label: str  # one of exeunt.train.demo.words.LABELS
    kind: str  # "question/shape", ..., "statement/double_relation"


def load_split(
    split: str, *, questions: bool = True, num_statements: int | None = None
) -> Sequence[Sample]:
    """Load a split: its easy-vqa questions, then its fixed statements.

    Args:
        split: "train", "calibration" (held-back train images and scenes, for choosing
            thresholds) or "test" (all 9,673 test questions and 2,000 statements).
        questions: whether the questions are included.
        num_statements: how many statements; by default all the fixed ones, and 0 is allowed.

    Raises:
        ValueError: the split's name is unknown, or `num_statements` is not in range.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    available = NUM_STATEMENTS[split]
    wanted = available if num_statements is None else num_statements
    if not 0 <= wanted <= available:
        raise ValueError(
            f"num_statements is {wanted}, but the split {split!r} has {available}: "
            f"give a number from 0 to {available}"
        )
    samples = _question_samples(split) if questions else []
    if wanted:
        samples.extend(_statement_samples(split)[:wanted])
    return samples


def _question_samples(split: str) -> list[Sample]:
    loaded = load_questions(split)
    images = [Image.fromarray(pixels) for pixels in loaded.images]
    return [
        Sample(images[image], text, answer, question_kind(answer))
        for image, text, answer in zip(loaded.image, loaded.text, loaded.answer, strict=True)
    ]


def _statement_samples(split: str) -> list[Sample]:
    cells, table = split_statements(split, NUM_STATEMENTS[split], DATA_SEED)
    rng = np.random.default_rng([DATA_SEED, SPLITS.index(split), 1])
    images = render_scenes(cells, rng)
    return [
        Sample(
            Image.fromarray(images[row]),
            phrase(table.key(row)),
            STATEMENT_LABELS[table.label[row]],
            f"statement/{TEMPLATES[VARIANTS[table.variant[row]][0]]}",
        )
        for row in range(len(table))
    ]
