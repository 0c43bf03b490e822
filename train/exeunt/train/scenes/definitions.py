"""Statements that name a kind by an invented word, defined in the same text once or over another.

"zib means dax , wug means dog , dax means cat , there is a zib" asks for a cat: only who reads the
definitions knows. A lane that sees no image can find that out, a layer for each step from word to
word, so that texts need different depths.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.scenes import KINDS
from exeunt.train.demo.templates import (
    COUNT,
    EXISTS,
    NUM_SUBJECTS,
    RELATION,
    VARIANTS,
    Statements,
    article,
    phrase,
)

MEANS = "means"
ALIASES = ("zib", "dax", "wug", "fep", "blick", "toma")  # they take "a", and "s" in the plural
# Templates whose statements may define a word; two relations are long enough without.
DEFINING = (EXISTS, COUNT, RELATION)
DEFINED_SHARE = 0.2  # of their statements
TWICE_SHARE = 0.5  # of those, the ones whose word is defined by another defined word

Key = tuple[int, ...]


@dataclass(frozen=True)
class Definitions:
    """How N statements name one of their kinds; every field is an array of length N."""

    steps: NDArray[np.int8]  # 0: by its name; 1: by a word for it; 2: by a word for such a word
    subject: NDArray[np.int8]  # which of the statement's kinds is named so, from 0
    words: NDArray[np.int8]  # [N, 3] distinct indices into ALIASES
    order: NDArray[np.int8]  # [N, 3] a permutation: the order of the definitions

    def key(self, row: int) -> Key:
        """Return what the text of a row depends on beside its statement, as a hashable key."""
        if not self.steps[row]:
            return ()
        return (
            int(self.steps[row]),
            int(self.subject[row]),
            *self.words[row].tolist(),
            *self.order[row].tolist(),
        )


def sample_definitions(rng: np.random.Generator, table: Statements) -> Definitions:
    """Draw which of the statements define a word, and how."""
    count = len(table)
    template = np.array(VARIANTS)[table.variant, 0]
    defined = np.isin(template, DEFINING) & (rng.random(count) < DEFINED_SHARE)
    twice = rng.random(count) < TWICE_SHARE
    return Definitions(
        steps=np.where(defined, 1 + twice, 0).astype(np.int8),
        subject=rng.integers(0, np.array(NUM_SUBJECTS)[template]).astype(np.int8),
        words=np.argsort(rng.random((count, len(ALIASES))), axis=1)[:, :3].astype(np.int8),
        order=np.argsort(rng.random((count, 3)), axis=1).astype(np.int8),
    )


def define(statement: Key, definition: Key) -> str:
    """Write a statement, with the definitions of the word that it uses before it.

    A kind that the statement does not name is defined too, so that the definitions have to be told
    apart.

    Args:
        statement: from `Statements.key`.
        definition: from `Definitions.key`.
    """
    if not definition:
        return phrase(statement)
    steps, subject = definition[:2]
    used, between, other = (ALIASES[place] for place in definition[2:5])
    named = NUM_SUBJECTS[VARIANTS[statement[0]][0]]
    meant = KINDS[statement[1 + subject]][1]
    lines = [(other, KINDS[statement[1 + named]][1])]
    lines += [(used, meant)] if steps == 1 else [(used, between), (between, meant)]
    ordered = [lines[place] for place in definition[5:] if place < len(lines)]
    said = " , ".join(f"{word} {MEANS} {meaning}" for word, meaning in ordered)
    return f"{said} , {_renamed(phrase(statement), statement[1 + subject], used)}"


def denoted(text: str) -> list[int]:
    """Return for each word of a text the kind that it stands for if it is defined there, else -1.

    Args:
        text: words apart by blanks, from `define`.
    """
    words = text.split()
    meanings = {
        words[place - 1]: words[place + 1] for place, word in enumerate(words) if word == MEANS
    }
    kinds = {singular: kind for kind, (_, singular, _) in enumerate(KINDS)}
    found = []
    for word in words:
        meaning = word.removesuffix("s")
        defined = meaning in meanings
        while meaning in meanings:
            meaning = meanings[meaning]
        found.append(kinds[meaning] if defined else -1)
    return found


def _renamed(text: str, kind: int, word: str) -> str:
    """Replace a kind's name, with its article."""
    _, singular, plural = KINDS[kind]
    padded = f" {text} "
    padded = padded.replace(f" {article(kind)} {singular} ", f" a {word} ")
    padded = padded.replace(f" {singular} ", f" {word} ").replace(f" {plural} ", f" {word}s ")
    return padded.strip()
