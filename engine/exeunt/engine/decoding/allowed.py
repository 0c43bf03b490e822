"""Scoring a list of allowed answers: a tree of their tokens, of which only the forks are computed.

Reference: OFA's evaluation of SNLI-VE, which masks all but a trie's tokens before the softmax.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from exeunt.engine.decoding.rules import Row, log_softmax
from exeunt.engine.decoding.search import Child, Found, Step
from exeunt.engine.errors import ModelOutputInvalid


@dataclass
class _Node:
    """A beginning of some answers.

    next: by token, the end token's being the answer's end. answers: that begin so; several leave
    something to be decided. answer: the one that ends here.
    """

    next: dict[int, "_Node"] = field(default_factory=dict)
    answers: int = 0
    answer: int | None = None

    @property
    def forks(self) -> bool:
        """Whether anything is left to be decided from here on."""
        return self.answers > 1


class AnswerTree:
    """Allowed answers by their beginnings; built once, and shared by every request that names them.

    answers: tokens, without the end token. eos: the end token. width: beginnings that are open at
    once, at most.
    """

    def __init__(self, answers: Sequence[Sequence[int]], eos: int) -> None:
        self.ended = [(*answer, eos) for answer in answers]
        self.root = _Node()
        for place, tokens in enumerate(self.ended):
            node = self.root
            node.answers += 1
            for token in tokens:
                node = node.next.setdefault(token, _Node())
                node.answers += 1
            node.answer = place
        self.width = self._widest()

    def _widest(self) -> int:
        widest, level = 1, [self.root]
        while level:
            widest = max(widest, len(level))
            level = [child for node in level for child in node.next.values() if child.forks]
        return widest


class Allowed:
    """Score every allowed answer by the product of p(token | its beginning, allowed tokens).

    Where only one token may follow its probability is 1, so nothing is computed for it unless a
    later fork needs it in the caches. Answers of one token each are scored in a single step.

    tree: of the answers.
    """

    def __init__(self, tree: AnswerTree) -> None:
        self._tree = tree
        self._live = [(tree.root, 0.0)]  # with log p of the beginning
        self._scores = np.full(len(tree.ended), -np.inf, dtype=np.float32)
        self.width = tree.width

    def step(self, live: Sequence[Sequence[int]], logits: Sequence[Row]) -> Step:  # noqa: ARG002 (the protocol's; the tree knows the tokens)
        """Return the beginnings after which something is open; see `Search.step`."""
        children: list[Child] = []
        going: list[tuple[_Node, float]] = []
        ended: list[tuple[int, tuple[int, ...]]] = []
        for parent, ((node, before), row) in enumerate(zip(self._live, logits, strict=True)):
            for token, share in zip(node.next, _shares(row, list(node.next)), strict=True):
                child, score = node.next[token], before + share
                if child.forks:
                    children.append(Child(parent, token, score))
                    going.append((child, score))
                else:
                    answer = _only_answer(child)
                    self._scores[answer] = score
                    ended.append((parent, self._tree.ended[answer]))
        self._live = going
        if children:
            return Step(children, ended=ended)
        best = int(self._scores.argmax())
        score = float(self._scores[best])
        return Step(found=Found(self._tree.ended[best], score, best, self._scores), ended=ended)


def _shares(row: Row, tokens: list[int]) -> list[float]:
    """Return log p of each token among these."""
    if len(tokens) == 1:
        return [0.0]
    scores = row[tokens]
    if not np.isfinite(scores.max()):
        raise ModelOutputInvalid(
            "the model gives none of the allowed answers a chance: its logits there are not finite"
            " numbers; check the answers, the checkpoint and its precision"
        )
    shares: list[float] = log_softmax(scores).tolist()
    return shares


def _only_answer(node: _Node) -> int:
    """Return the answer that a beginning without forks leads to."""
    while node.answer is None:
        (node,) = node.next.values()
    return node.answer
