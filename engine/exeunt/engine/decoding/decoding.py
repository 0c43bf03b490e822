"""Decoding: the hypotheses of one request in a loop lane, each a unit with caches of its own."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import LoopSpec
from exeunt.engine.decoding.allowed import Allowed
from exeunt.engine.decoding.options import Asked
from exeunt.engine.decoding.rules import Row, TokenRules
from exeunt.engine.decoding.search import Beam, Child, Found, Greedy, Search
from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.lanes.unit import Unit

_log = logging.getLogger(__name__)

OnToken = Callable[[int, LaneExit], None]


@dataclass(frozen=True, slots=True)
class Finished:
    """A text that is complete.

    tokens: all of it, the end token included. exits: of the steps that were computed for it.
    logits: of the last of them. score: of a search. index, scores: of an allowed answer, and of all
    of them [A].
    """

    tokens: tuple[int, ...]
    exits: tuple[LaneExit, ...]
    logits: Row
    score: float | None = None
    index: int | None = None
    scores: NDArray[np.float32] | None = None


@dataclass(eq=False)
class Decoding:
    """The hypotheses of one request; used by one thread at a time.

    Each is a unit of its own, which stands at its own layer and leaves a step where it is sure;
    only when all have left a step are the next ones chosen. What a step answered is forgotten with
    it: a vocabulary's logits of every token would outgrow the caches.

    search: chooses. on_token: is told every token as soon as it is certain, where hypotheses do not
    compete.
    """

    search: Search | Greedy
    on_token: OnToken | None = None
    _live: list[Unit] = field(default_factory=list)
    _arrived: dict[Unit, Row] = field(default_factory=dict)
    # Of texts that are complete: the exits of their steps, and the last step's logits.
    _ended: dict[tuple[int, ...], tuple[tuple[LaneExit, ...], Row]] = field(default_factory=dict)

    def begin(self, unit: Unit) -> None:
        """Begin with the unit that has entered the lane."""
        self._live = [unit]

    def advance(self, unit: Unit, found: LaneExit) -> tuple[list[Unit], Finished | None]:
        """Take a unit's exit; return the units that go on, once all have left, or the text.

        Args:
            unit: that has left its step; `found` is the last of its exits.
            found: where, with finite logits.

        Raises:
            InputError: the request's options leave no token to go on with.
            ModelOutputInvalid: the model gives none of the allowed answers a chance.
        """
        assert found.logits is not None, "a loop lane has heads"
        logits, search = found.logits, self.search
        unit.exits[-1] = found._replace(logits=None)
        if isinstance(search, Greedy):
            return self._go_on(unit, found, logits, search)
        self._arrived[unit] = logits
        if len(self._arrived) < len(self._live):
            return [], None
        live, rows = self._live, [self._arrived[unit] for unit in self._live]
        self._arrived = {}
        step = search.step([unit.tokens for unit in live], rows)
        for parent, tokens in step.ended:
            self._ended[tokens] = tuple(live[parent].exits), rows[parent].copy()
        if step.found is not None:
            return [], self._finish(step.found)
        self._live = _descend(live, step.children)
        return self._live, None

    def _go_on(
        self, unit: Unit, found: LaneExit, logits: Row, search: Greedy
    ) -> tuple[list[Unit], Finished | None]:
        """Take the best token: what most requests do, without the ways of a search."""
        tokens = unit.tokens
        tokens.append(search.token(tokens, logits))
        self._tell(tokens[-1], found)
        if search.rules.ends(tokens):
            return [], Finished(tuple(tokens), tuple(unit.exits), logits.copy())
        unit.next_step()
        return [unit], None

    def _tell(self, token: int, found: LaneExit) -> None:
        """Tell a token to whoever listens; one that raises is told no more."""
        if self.on_token is not None:
            try:
                self.on_token(token, found)
            except BaseException:  # the caller's own, cancelled ones too; the engine goes on
                _log.exception("a listener to generated tokens failed")
                self.on_token = None

    def _finish(self, found: Found) -> Finished:
        exits, logits = self._ended[found.tokens]
        return Finished(found.tokens, exits, logits, found.score, found.index, found.scores)


def _descend(live: Sequence[Unit], children: Sequence[Child]) -> list[Unit]:
    """Give every child a unit: the first of a parent keeps its unit, others take one over."""
    kept = {child.parent for child in children}
    spare = [unit for place, unit in enumerate(live) if place not in kept]
    history = [(list(unit.tokens), list(unit.exits)) for unit in live]
    going: list[Unit] = []
    for child in children:
        parent = live[child.parent]
        if child.parent in kept:
            kept.remove(child.parent)
            going.append(parent)
        elif spare:
            other = spare.pop()
            other.take_over(parent)
            going.append(other)
        else:
            going.append(parent.fork())
    for unit in spare:
        unit.release()
    for unit, child in zip(going, children, strict=True):
        tokens, exits = history[child.parent]
        unit.tokens, unit.exits = [*tokens, child.token], list(exits)
        unit.next_step()
    return going


def search_of(asked: Asked, loop: LoopSpec) -> Search | Greedy:
    """Return the search that a request asked for."""
    if asked.tree is not None:
        return Allowed(asked.tree)
    options, rules = asked.options, TokenRules.of(loop, asked.options)
    if options.beams > 1:
        return Beam(rules, options.beams, options.length_penalty)
    return Greedy(rules)
