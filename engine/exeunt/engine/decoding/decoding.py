"""Decoding: the hypotheses of one request in a loop lane, each a unit with caches of its own."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exeunt.engine.bundle.manifest import LoopSpec
from exeunt.engine.decoding.allowed import Allowed
from exeunt.engine.decoding.options import GenerationOptions
from exeunt.engine.decoding.rules import TokenRules
from exeunt.engine.decoding.search import Beam, Child, Found, Greedy, Search
from exeunt.engine.lanes.request import LaneExit
from exeunt.engine.lanes.unit import Unit

_log = logging.getLogger(__name__)

OnToken = Callable[[int, LaneExit], None]


@dataclass(frozen=True, slots=True)
class Finished:
    """A text that is complete.

    tokens: all of it, the end token included. exits: of the steps that were computed for it. score:
    of a search. index, scores: of an allowed answer, and of all of them [A].
    """

    tokens: tuple[int, ...]
    exits: tuple[LaneExit, ...]
    score: float | None = None
    index: int | None = None
    scores: NDArray[np.float32] | None = None


@dataclass(eq=False)
class Decoding:
    """The hypotheses of one request; used by one thread at a time.

    Each is a unit of its own, which stands at its own layer and leaves a step where it is sure;
    only when all have left a step are the next ones chosen.

    search: chooses. on_token: is told every token as soon as it is certain, where hypotheses do not
    compete.
    """

    search: Search | Greedy
    on_token: OnToken | None = None
    _live: list[Unit] = field(default_factory=list)
    _arrived: dict[Unit, LaneExit] = field(default_factory=dict)
    _ended: dict[tuple[int, ...], tuple[LaneExit, ...]] = field(default_factory=dict)

    def begin(self, unit: Unit) -> None:
        """Begin with the unit that has entered the lane."""
        self._live = [unit]

    def advance(self, unit: Unit, found: LaneExit) -> tuple[list[Unit], Finished | None]:
        """Take a unit's exit; return the units that go on, once all have left, or the text.

        Args:
            unit: that has left its step.
            found: where, with finite logits.
        """
        search = self.search
        if isinstance(search, Greedy):
            return self._go_on(unit, found, search)
        self._arrived[unit] = found
        if len(self._arrived) < len(self._live):
            return [], None
        live, exits = self._live, [self._arrived[unit] for unit in self._live]
        logits = [found.logits for found in exits if found.logits is not None]
        step = search.step([unit.tokens for unit in live], logits)
        self._arrived = {}
        if isinstance(search, Beam):
            self._note_ends(search, live)
        if step.found is not None:
            return [], self._finish(step.found, live)
        self._live = self._descend(live, step.children)
        return self._live, None

    def _go_on(
        self, unit: Unit, found: LaneExit, search: Greedy
    ) -> tuple[list[Unit], Finished | None]:
        """Take the best token: what most requests do, without the ways of a search."""
        assert found.logits is not None, "a loop lane has heads"
        tokens, rules = unit.tokens, search.rules
        token = int(rules.rule_out(found.logits, tokens).argmax())
        tokens.append(token)
        self._tell(token, found)
        if rules.ends(tokens):
            return [], Finished(tuple(tokens), tuple(unit.exits))
        unit.next_step()
        return [unit], None

    def _tell(self, token: int, found: LaneExit) -> None:
        """Tell a token to whoever listens; one that raises is told no more."""
        if self.on_token is not None:
            try:
                self.on_token(token, found)
            except Exception:  # the caller's own; the engine and the others go on
                _log.exception("a listener to generated tokens failed")
                self.on_token = None

    def _note_ends(self, search: Beam, live: list[Unit]) -> None:
        """Keep the exits of hypotheses that have just ended: their units go on with others."""
        for found in search.finished:
            if found.tokens not in self._ended:
                parent = next(unit for unit in live if tuple(unit.tokens) == found.tokens[:-1])
                self._ended[found.tokens] = tuple(parent.exits)

    def _finish(self, found: Found, live: list[Unit]) -> Finished:
        exits = self._ended.get(found.tokens)
        if exits is None:
            # An allowed answer may be certain before its last token: the steps that were computed.
            parents = (u for u in live if tuple(u.tokens) == found.tokens[: len(u.tokens)])
            exits = tuple(next(parents, live[0]).exits)
        return Finished(found.tokens, exits, found.score, found.index, found.scores)

    def _descend(self, live: list[Unit], children: Sequence[Child]) -> list[Unit]:
        """Give every child a unit: the first of a parent keeps its unit, others take one over."""
        kept: set[int] = set()
        moved: list[tuple[int, Child]] = []
        units: list[Unit | None] = []
        for place, child in enumerate(children):
            if child.parent in kept:
                moved.append((place, child))
                units.append(None)
            else:
                kept.add(child.parent)
                units.append(live[child.parent])
        history = [(list(unit.tokens), list(unit.exits)) for unit in live]
        spare = [unit for place, unit in enumerate(live) if place not in kept]
        for place, child in moved:
            parent = live[child.parent]
            if spare:
                other = spare.pop()
                other.take_over(parent)
            else:
                other = parent.fork()
            units[place] = other
        for unit in spare:
            unit.release()
        going: list[Unit] = []
        for own, child in zip(units, children, strict=True):
            assert own is not None, "every child has a unit"
            tokens, exits = history[child.parent]
            own.tokens, own.exits = [*tokens, child.token], list(exits)
            own.next_step()
            going.append(own)
        return going


def search_of(options: GenerationOptions, loop: LoopSpec) -> Search | Greedy:
    """Return the search that a request asked for."""
    if options.allowed:
        return Allowed(options.allowed, loop.eos)
    rules = TokenRules.of(loop, options)
    if options.beams > 1:
        return Beam(rules, options.beams, options.length_penalty)
    return Greedy(rules)
