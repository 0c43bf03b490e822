"""Searches: from the logits of all live hypotheses to those that go on, or to the answer.

A search knows tokens and scores alone; units and caches are `Decoding`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.decoding.rules import Row, TokenRules, log_softmax
from exeunt.engine.errors import InputError


@dataclass(frozen=True, slots=True)
class Child:
    """A hypothesis that goes on. parent: its place among the live ones. token: what it takes."""

    parent: int
    token: int
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a search answers.

    tokens: all of it. score: of the answer. index, scores: of an allowed answer, its place and the
    scores of all, [A].
    """

    tokens: tuple[int, ...]
    score: float | None = None
    index: int | None = None
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a step leads to: hypotheses that go on, or the answer.

    ended: (live place, tokens) of texts that are complete with this step, whether or not they will
    be the answer.
    """

    children: Sequence[Child] = ()
    found: Found | None = None
    ended: Sequence[tuple[int, tuple[int, ...]]] = ()


class Search(Protocol):
    """Chooses tokens for one request."""

    @property
    def width(self) -> int:
        """Live hypotheses at most."""
        ...

    def step(self, live: Sequence[Sequence[int]], logits: Sequence[Row]) -> Step:
        """Return what goes on from the live hypotheses.

        Args:
            live: the tokens of each.
            logits: the next token's, [C] of each; finite somewhere.

        Raises:
            InputError: the request's options leave no token to go on with.
            ModelOutputInvalid: the model gives none of the allowed answers a chance.
        """
        ...


@dataclass(frozen=True)
class Greedy:
    """Take the most probable token, each time: no search at all."""

    rules: TokenRules
    width: ClassVar[int] = 1

    def token(self, tokens: Sequence[int], logits: Row) -> int:
        """Return what follows.

        Raises:
            InputError: the request's options leave no token to go on with.
        """
        scores = self.rules.rule_out(logits, tokens)
        best = int(scores.argmax())
        if scores[best] == -np.inf:
            raise nothing_follows(len(tokens))
        return best


@dataclass
class Beam:
    """Keep the most probable hypotheses, as fairseq's SequenceGenerator does.

    Of the 2 B best continuations those that end among the first B are finished, at sum(log p) /
    length^penalty; the others fill the beam again. It is over when B have finished, or at the last
    step.
    """

    rules: TokenRules
    width: int
    penalty: float
    scores: list[float] = field(default_factory=lambda: [0.0])
    finished: list[Found] = field(default_factory=list)

    def step(self, live: Sequence[Sequence[int]], logits: Sequence[Row]) -> Step:
        """Return the beam; see `Search.step`."""
        rows = [
            self.rules.rule_out(log_softmax(row), tokens) + np.float32(score)
            for row, tokens, score in zip(logits, live, self.scores, strict=True)
        ]
        children: list[Child] = []
        ended: list[tuple[int, tuple[int, ...]]] = []
        candidates = _best(rows, 2 * self.width)
        if not candidates and not self.finished:
            raise nothing_follows(len(live[0]))
        for rank, (parent, token, score) in enumerate(candidates):
            tokens = (*live[parent], token)
            if token == self.rules.eos or len(tokens) >= self.rules.max_tokens:
                if rank < self.width and len(self.finished) < self.width:
                    self._finish(tokens, score)
                    ended.append((parent, tokens))
            elif len(children) < self.width:
                children.append(Child(parent, token, score))
        if not (children or self.finished):  # all that is left to say ends, below the beam
            parent, token, score = candidates[0]
            self._finish((*live[parent], token), score)
            ended.append((parent, (*live[parent], token)))
        if len(self.finished) >= self.width or not children:
            best = max(self.finished, key=lambda found: found.score or 0.0)
            return Step(found=best, ended=ended)
        self.scores = [child.score for child in children]
        return Step(children, ended=ended)

    def _finish(self, tokens: tuple[int, ...], score: float) -> None:
        self.finished.append(Found(tokens, score / len(tokens) ** self.penalty))


def nothing_follows(step: int) -> InputError:
    """Return the error for a request whose options contradict each other."""
    return InputError(
        f"nothing may follow the first {step} tokens: no_repeat_ngram, min_tokens and the model's"
        " own rules forbid every token; ask for fewer of them"
    )


def _best(rows: Sequence[Row], count: int) -> list[tuple[int, int, float]]:
    """Return the (row, token, score) of the largest finite scores, the first of equals first."""
    flat = np.concatenate(rows)
    count = min(count, len(flat))
    # Selected by value, then ordered by place among equals: no order of a partition shows.
    limit = np.partition(flat, len(flat) - count)[len(flat) - count]
    places = np.flatnonzero(flat >= limit)
    order = places[np.argsort(-flat[places], kind="stable")][:count]
    width = len(rows[0])
    return [
        (int(place // width), int(place % width), float(flat[place]))
        for place in order
        if np.isfinite(flat[place])
    ]
