"""The two tasks' evaluation data, without torch: statements with answers, scenes with captions."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from exeunt.train.demo.scenes import render_scenes, sample_scenes
from exeunt.train.demo.statements import split_statements
from exeunt.train.demo.templates import STATEMENT_LABELS, TEMPLATES, VARIANTS
from exeunt.train.scenes.captions import reference_captions
from exeunt.train.scenes.definitions import define, sample_definitions
from exeunt.train.scenes.words import ANSWER_OF_LABEL, CAPTION_PROMPT

SPLITS = ("train", "calibration", "test")
DATA_SEED = 11
# Statements and captioned scenes of each split: fixed, one scene each.
NUM_STATEMENTS = {"train": 2000, "calibration": 6000, "test": 4000}
NUM_CAPTIONED = {"train": 400, "calibration": 400, "test": 1000}
# Of exists, count, relation and double relation. Lanes that do not see each other meet in one
# decoder step, which cannot follow chains.
STATEMENT_SHARES = (0.25, 0.25, 0.28, 0.22, 0.0, 0.0)


@dataclass(frozen=True)
class EntailmentSample:
    """A statement about an image, with what holds of it."""

    image: Image.Image  # RGB, 64 x 64
    text: str
    answer: str  # one of exeunt.train.scenes.words.ANSWERS
    # "exists", "count", "relation" or "double_relation"; "defined" or "defined_twice" when it names
    # a kind by a word that its text defines, directly or by way of another.
    kind: str


@dataclass(frozen=True)
class CaptionSample:
    """An image with its reference captions."""

    image: Image.Image  # RGB, 64 x 64
    text: str  # the prompt, the same for all
    references: tuple[str, ...]


def load_entailment(split: str, count: int | None = None) -> list[EntailmentSample]:
    """Load the fixed statements of a split.

    Args:
        split: "train", "calibration" (for choosing thresholds) or "test"; they share no scene.
        count: how many; by default all.

    Raises:
        ValueError: the split's name is unknown, or `count` is not in range.
    """
    wanted = _checked(split, count, NUM_STATEMENTS)
    cells, table = split_statements(split, NUM_STATEMENTS[split], DATA_SEED, STATEMENT_SHARES)
    images = render_scenes(cells, np.random.default_rng([DATA_SEED, SPLITS.index(split), 1]))
    definitions = sample_definitions(
        np.random.default_rng([DATA_SEED, SPLITS.index(split), 3]), table
    )
    kinds = [
        (TEMPLATES[VARIANTS[variant][0]], "defined", "defined_twice")[steps]
        for variant, steps in zip(table.variant, definitions.steps, strict=True)
    ]
    return [
        EntailmentSample(
            Image.fromarray(images[row]),
            define(table.key(row), definitions.key(row)),
            ANSWER_OF_LABEL[STATEMENT_LABELS[table.label[row]]],
            kinds[row],
        )
        for row in range(wanted)
    ]


def load_captions(split: str, count: int | None = None) -> list[CaptionSample]:
    """Load the fixed captioned scenes of a split.

    Args:
        split: as for `load_entailment`.
        count: how many; by default all.

    Raises:
        ValueError: the split's name is unknown, or `count` is not in range.
    """
    wanted = _checked(split, count, NUM_CAPTIONED)
    rng = np.random.default_rng([DATA_SEED, SPLITS.index(split), 2])
    cells = sample_scenes(rng, NUM_CAPTIONED[split], split)
    images = render_scenes(cells, rng)
    references = reference_captions(cells, DATA_SEED)
    return [
        CaptionSample(Image.fromarray(images[row]), CAPTION_PROMPT, tuple(references[row]))
        for row in range(wanted)
    ]


def _checked(split: str, count: int | None, available: dict[str, int]) -> int:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    wanted = available[split] if count is None else count
    if not 0 < wanted <= available[split]:
        raise ValueError(
            f"count is {wanted}, but the split {split!r} has {available[split]}: "
            f"give a number from 1 to {available[split]}"
        )
    return wanted
