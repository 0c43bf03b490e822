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
EXISTS, COUNT, RELATION, DOUBLE, CHAIN, LONG_CHAIN = range(6)
TEMPLATES = ("exists", "count", "relation", "double_relation", "chained_relation", "long_chain")
NUM_SUBJECTS = (1, 1, 2, 3, 4, 6)  # kinds that a template names
MAX_SUBJECTS = max(NUM_SUBJECTS)
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
    (LONG_CHAIN, 0, 0),
)
# Shares of the templates, in the order of TEMPLATES.
TEMPLATE_SHARES = (0.28, 0.18, 0.18, 0.13, 0.11, 0.12)


@dataclass(frozen=True)
class Statements:
    """A table of statements, one row each; every field is an array of length N."""

    scene: NDArray[np.int64]  # index into the scenes that they were sampled for
    variant: NDArray[np.int8]  # index into VARIANTS
    subjects: NDArray[np.int8]  # [N, MAX_SUBJECTS] distinct kinds; a template uses the first few
    relations: NDArray[np.int8]  # [N, MAX_SUBJECTS - 1] indices into RELATIONS
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
    template, quantifier, number = VARIANTS[key[0]]
    x, *others = key[1 : 1 + NUM_SUBJECTS[template]]
    if template == EXISTS:
        return f"there is {'no' if number == 0 else article(x)} {KINDS[x][1]}"
    if template == COUNT:
        verb, noun = ("is", KINDS[x][1]) if number == 1 else ("are", KINDS[x][2])
        return f"there {verb} {QUANTIFIERS[quantifier]} {NUMBERS[number]} {noun}"
    joint = " and" if template == DOUBLE else " that is"
    links = [
        f"{RELATIONS[relation]} {article(kind)} {KINDS[kind][1]}"
        for kind, relation in zip(others, key[1 + MAX_SUBJECTS :], strict=False)
    ]
    return f"{article(x)} {KINDS[x][1]} is " + f"{joint} ".join(links)


def article(kind: int) -> str:
    """Return the indefinite article of a kind's name."""
    return "an" if KINDS[kind][1][0] in "aeiou" else "a"
