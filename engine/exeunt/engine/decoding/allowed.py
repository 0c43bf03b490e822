"""Scoring a list of allowed answers: a tree of their tokens, of which only the forks are computed.

Reference: OFA's evaluation of SNLI-VE, which masks all but a trie's tokens before the softmax.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from exeunt.engine.decoding.rules import Row, log_softmax
from exeunt.engine.decoding.search import Child, Found, Step


@dataclass
class _Node:
    """A beginning of some answers.

    next: by token, the end token's being the answer's end. answers: that begin so; several leave
    something to be decided. answer: the one that ends here. score: log p of the beginning.
    """

    next: dict[int, "_Node"] = field(default_factory=dict)
    answers: int = 0
    answer: int | None = None
    score: float = 0.0

    @property
    def forks(self) -> bool:
        """Whether anything is left to be decided from here on."""
        return self.answers > 1


class Allowed:
    """Score every allowed answer by the product of p(token | its beginning, allowed tokens).

    Where only one token may follow its probability is 1, so nothing is computed for it unless a
    later fork needs it in the caches. Answers of one token each are scored in a single step.

    answers: tokens, without the end token. eos: the end token.
    """

    def __init__(self, answers: Sequence[Sequence[int]], eos: int) -> None:
        self._answers = [tuple(answer) for answer in answers]
        self._eos = eos
        self._root = _Node()
        for place, answer in enumerate(answers):
            node = self._root
            node.answers += 1
            for token in (*answer, eos):
                node = node.next.setdefault(token, _Node())
                node.answers += 1
            node.answer = place
        self._live = [self._root]
        self._scores = np.full(len(answers), -np.inf, dtype=np.float32)
        self.width = self._widest()

    def step(self, live: Sequence[Sequence[int]], logits: Sequence[Row]) -> Step:  # noqa: ARG002 (the protocol's; the tree knows the tokens)
        """Return the beginnings after which something is open; see `Search.step`."""
        children: list[Child] = []
        nodes: list[_Node] = []
        for parent, (node, row) in enumerate(zip(self._live, logits, strict=True)):
            tokens = list(node.next)
            shares = log_softmax(row[tokens]) if len(tokens) > 1 else np.zeros(1, dtype=np.float32)
            for token, share in zip(tokens, shares.tolist(), strict=True):
                child = node.next[token]
                child.score = node.score + share
                if child.forks:
                    children.append(Child(parent, token, child.score))
                    nodes.append(child)
                else:
                    self._scores[_only_answer(child)] = child.score
        self._live = nodes
        if children:
            return Step(children)
        best = int(self._scores.argmax())
        tokens_of = (*self._answers[best], self._eos)
        return Step(found=Found(tokens_of, float(self._scores[best]), best, self._scores))

    def _widest(self) -> int:
        """Return how many beginnings are open at once, at most."""
        widest, level = 1, [self._root]
        while level:
            widest = max(widest, len(level))
            level = [child for node in level for child in node.next.values() if child.forks]
        return widest


def _only_answer(node: _Node) -> int:
    """Return the answer that a beginning without forks leads to."""
    while node.answer is None:
        (node,) = node.next.values()
    return node.answer
