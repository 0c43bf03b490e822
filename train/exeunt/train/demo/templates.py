"""What a statement about a scene can say: templates, tables of statements, and their words."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exeunt.train.demo.scenes import KINDS

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2
STATEMENT_LABELS = ("entailment", "neutral", "contradiction")
RELATIONS = ("left of", "right of", "above", "below")
QUANTIFIERS = ("exactly", "at least", "at most")
NUMBERS = ("zero", "one", "two", "three")

# (template, quantifier, number): the labels are balanced within each of these variants.
EXISTS, COUNT, RELATION, DOUBLE, CHAIN = range(5)
TEMPLATES = ("exists", "count", "relation", "double_relation", "chained_relation")
AT_LEAST, AT_MOST, EXACTLY = 1, 2, 0
VARIANTS: tuple[tuple[int, int, int], ...] = (
    (EXISTS, AT_LEAST, 1),
    (EXISTS, AT_MOST, 0),
    (COUNT, EXACTLY, 1),
    (COUNT, EXACTLY, 2),
    (COUNT, EXACTLY, 3),
    (COUNT, AT_LEAST, 2),
    (COUNT, AT_LEAST, 3),
    (COUNT, AT_MOST, 1),
    (COUNT, AT_MOST, 2),
    (RELATION, 0, 0),
    (DOUBLE, 0, 0),
    (CHAIN, 0, 0),
)
# Shares of the templates, in the order of TEMPLATES.
TEMPLATE_SHARES = (0.25, 0.2, 0.2, 0.15, 0.2)


@dataclass(frozen=True)
class Statements:
    """A table of statements, one row each; every field is an array of length N."""

    scene: NDArray[np.int64]  # index into the scenes that they were sampled for
    variant: NDArray[np.int8]  # index into VARIANTS
    subjects: NDArray[np.int8]  # [N, 4] distinct kinds X, Y, Z, W; a template uses the first few
    relations: NDArray[np.int8]  # [N, 3] indices into RELATIONS
    label: NDArray[np.int8]  # index into STATEMENT_LABELS

    def __len__(self) -> int:
        """Count the statements."""
        return len(self.scene)

    def take(self, rows: NDArray[np.int64]) -> "Statements":
        """Return the given rows, in that order."""
        return Statements(
            self.scene[rows],
            self.variant[rows],
            self.subjects[rows],
            self.relations[rows],
            self.label[rows],
        )

    def key(self, row: int) -> tuple[int, ...]:
        """Return what the text of a row depends on, as a hashable key."""
        return (
            int(self.variant[row]),
            *self.subjects[row].tolist(),
            *self.relations[row].tolist(),
        )


def phrase(key: tuple[int, ...]) -> str:
    """Write a statement in words; `key` comes from `Statements.key`."""
    variant, x, y, z, w, first, second, third = key
    template, quantifier, number = VARIANTS[variant]
    if template == EXISTS:
        return f"there is {'no' if number == 0 else article(x)} {KINDS[x][1]}"
    if template == COUNT:
        verb, noun = ("is", KINDS[x][1]) if number == 1 else ("are", KINDS[x][2])
        return f"there {verb} {QUANTIFIERS[quantifier]} {NUMBERS[number]} {noun}"
    text = f"{article(x)} {KINDS[x][1]} is {RELATIONS[first]} {article(y)} {KINDS[y][1]}"
    if template == RELATION:
        return text
    if template == DOUBLE:
        return f"{text} and {RELATIONS[second]} {article(z)} {KINDS[z][1]}"
    text = f"{text} that is {RELATIONS[second]} {article(z)} {KINDS[z][1]}"
    return f"{text} that is {RELATIONS[third]} {article(w)} {KINDS[w][1]}"


def article(kind: int) -> str:
    """Return the indefinite article of a kind's name."""
    return "an" if KINDS[kind][1][0] in "aeiou" else "a"
