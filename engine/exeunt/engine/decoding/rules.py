"""Which tokens may follow: the loop's own rules, and those of a request."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import LoopSpec
from exeunt.engine.decoding.options import GenerationOptions

Row = NDArray[np.float32]  # [C]


@dataclass(frozen=True)
class TokenRules:
    """What may be answered at each step.

    eos: the end token. max_tokens, min_tokens: with and without it. closed: whether the last step
    answers nothing else. never: tokens that are not answered. ngram: its length; 0 allows all.
    """

    eos: int
    max_tokens: int
    min_tokens: int
    closed: bool
    never: tuple[int, ...]
    ngram: int

    @classmethod
    def of(cls, loop: LoopSpec, options: GenerationOptions) -> "TokenRules":
        """Return the rules of a request."""
        return cls(
            eos=loop.eos,
            max_tokens=options.max_tokens or loop.max_steps,
            min_tokens=loop.min_tokens if options.min_tokens is None else options.min_tokens,
            closed=loop.closed,
            never=loop.never,
            ngram=options.no_repeat_ngram,
        )

    def rule_out(self, scores: Row, tokens: Sequence[int]) -> Row:
        """Return scores [C] in which what may not follow is -inf.

        Args:
            scores: logits, or their logarithms of probabilities.
            tokens: so far.
        """
        step = len(tokens)
        last = self.closed and step == self.max_tokens - 1
        forbidden = list(self.never)
        if step < self.min_tokens:
            forbidden.append(self.eos)
        if self.ngram:
            forbidden += self._repeated(tokens)
        if not (forbidden or last):
            return scores
        allowed = scores.copy()
        if last:
            allowed[:] = -np.inf
            allowed[self.eos] = scores[self.eos]
            return allowed
        allowed[forbidden] = -np.inf
        return allowed

    def ends(self, tokens: Sequence[int]) -> bool:
        """Return whether a sequence is complete."""
        return tokens[-1] == self.eos or len(tokens) >= self.max_tokens

    def _repeated(self, tokens: Sequence[int]) -> list[int]:
        """Return what would make the last n tokens appear twice."""
        n = self.ngram
        if len(tokens) < n:
            return []
        begun = list(tokens[len(tokens) - n + 1 :])
        starts = range(len(tokens) - n + 1)
        return [tokens[at + n - 1] for at in starts if list(tokens[at : at + n - 1]) == begun]


def log_softmax(logits: Row) -> Row:
    """Return log p of each token, [C] float32, summed in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    found: Row = (wide - np.log(np.exp(wide).sum())).astype(np.float32)
    return found
