"""A run over HTTP: every server takes its turn in each repeat, the others are frozen."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

from exeunt.bench.http_peers.bodies import json_bodies
from exeunt.bench.http_peers.contenders import Contender, start
from exeunt.bench.http_peers.prepare import Prepared, order, prepare
from exeunt.bench.http_peers.report import BEST, Seen, make_report
from exeunt.bench.http_peers.running import Running, Sighting
from exeunt.bench.http_peers.settings import HttpSettings
from exeunt.bench.http_peers.tuning import BATCH_SIZES, TIMEOUTS_S, Search, Tuning
from exeunt.bench.load.sigterm import exit_on_sigterm
from exeunt.bench.report import Report
from exeunt.engine.errors import ConfigError

OUR_BATCH_SIZES = (8, 16, 32)
TRIAL_WARM_UP_S = 2.0
Progress = Callable[[str], None]


def bench_http(
    settings: HttpSettings, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> Report:
    """Measure requests per second over HTTP, ours beside the peers'.

    Args:
        settings: what to measure.
        cache_dir: where bundles, graphs and the peers' environments are kept; see `bench_cache`.
        progress: called with what comes next.

    Raises:
        ConfigError: a setting cannot be had here, or our own server does not start.
    """
    tell = progress or _silent
    with exit_on_sigterm(), tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        prepared = prepare(settings, Path(directory), cache_dir, tell)
        field = _Field(settings, prepared, tell)
        stack.callback(field.stop)
        for contender in prepared.contenders:
            field.enter(contender)
        for repeat in range(settings.repeats):
            field.take_turns(repeat)
    return make_report(settings, prepared, field.seen, field.not_measured)


class _Field:
    """All servers that run; at most one of them is not frozen."""

    def __init__(self, settings: HttpSettings, prepared: Prepared, tell: Progress) -> None:
        self.seen: dict[str, Seen] = {}
        self.not_measured = dict(prepared.not_measured)
        self._settings = settings
        self._prepared = prepared
        self._tell = tell
        self._running: dict[str, Running] = {}
        self._bodies = {
            listed: json_bodies(prepared.requests, listed=listed) for listed in (False, True)
        }

    def enter(self, contender: Contender) -> None:
        """Search a contender's tuning and start it; a peer that fails is left out, and said so."""
        try:
            search = self._search(contender)
            running = self._serve(contender, search.best)
            self._tell(f"asking {contender.name} every request once")
            self.seen[contender.name] = Seen(
                contender, search.best, dict(search.rates), running.answers()
            )
            running.server.freeze()
        except ConfigError as error:
            if contender.framework is None:
                raise
            self._leave_out(contender.name, str(error))

    def take_turns(self, repeat: int) -> None:
        """Measure every server once; every other time in the opposite order."""
        names = list(self._running)
        for name in names if repeat % 2 == 0 else reversed(names):
            running, seen = self._running[name], self.seen[name]
            self._tell(f"repeat {repeat + 1} of {self._settings.repeats}: {name}")
            running.server.thaw()
            try:
                running.wait()
                seen.sightings.append(self._load(running, seen.tuning, repeat))
            except ConfigError as error:
                if seen.contender.framework is None:
                    raise
                self._leave_out(name, str(error))
            else:
                running.server.freeze()

    def stop(self) -> None:
        """Stop all servers."""
        for running in self._running.values():
            running.server.stop()

    def _leave_out(self, name: str, reason: str) -> None:
        self.not_measured[name] = reason
        self.seen.pop(name, None)
        if running := self._running.pop(name, None):
            running.server.stop()

    def _load(self, running: Running, tuning: Tuning, repeat: int) -> Sighting:
        settings = self._settings
        places = cycle(order(settings.requests, settings.seed, repeat))
        return running.load(places, tuning.in_flight, settings.warm_up_s, settings.seconds)

    def _search(self, contender: Contender) -> Search:
        """Return the search, which has been done. The last server that was tried may still run."""
        settings = self._settings
        search = Search(
            self._first(contender), *self._axes(contender), in_flight=settings.in_flight
        )
        if search.is_needless:
            return search
        for tuning in search.trials():
            running = self._serve(contender, tuning)
            self._tell(f"trying {contender.name}: {tuning}")
            places = cycle(order(settings.requests, settings.seed, 0))
            sighting = running.load(places, tuning.in_flight, TRIAL_WARM_UP_S, settings.trial_s)
            search.tell(tuning, sighting.rate or 0.0)
        return search

    def _first(self, contender: Contender) -> Tuning:
        """Return what a contender is tried with first; ours with what our best one has."""
        settings = self._settings
        waits = contender.framework in ("litserve", "ray")
        ours = self.seen.get(BEST) if contender.framework is None else None
        streams = ours.tuning.streams if ours else settings.streams
        return Tuning(
            ours.tuning.batch_rows if ours else settings.batch_rows,
            settings.batch_timeout_s if waits else None,
            settings.in_flight[-1],
            streams if contender.framework is None else None,
        )

    def _axes(
        self, contender: Contender
    ) -> tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]:
        """Return the batch sizes, the time-outs and the streams to try."""
        if not self._settings.search:
            return (), (), ()
        if contender.framework is not None:
            return BATCH_SIZES, TIMEOUTS_S, ()
        if contender.name != BEST:
            return (), (), ()
        return OUR_BATCH_SIZES, (), tuple(sorted({1, self._settings.compute_threads}))

    def _serve(self, contender: Contender, tuning: Tuning) -> Running:
        """Return the contender's server, ready; started anew where its own settings differ."""
        settings = self._settings
        if running := self._running.get(contender.name):
            if running.tuning.served == tuning.served:
                return running
            running.server.stop()
        self._tell(f"starting {contender.name}: {tuning}")
        server = start(contender, self._prepared.files, tuning, settings.compute_threads)
        bodies = self._bodies[contender.framework == "bentoml"]
        running = Running(server, tuning, bodies, settings.layers)
        self._running[contender.name] = running
        running.wait()
        return running


def _silent(step: str) -> None:
    """Tell nobody."""
