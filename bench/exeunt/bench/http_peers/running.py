"""One contender under load, and what was seen."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from exeunt.bench.http_peers.bodies import AnswerTarget
from exeunt.bench.http_peers.process import ServedProcess
from exeunt.bench.http_peers.tuning import Tuning
from exeunt.bench.load.bodies import Body
from exeunt.bench.load.closed_loop import closed_loop
from exeunt.bench.load.http import HttpClient
from exeunt.bench.load.measure import Measurement, measure
from exeunt.bench.load.outcome import Reply, Run
from exeunt.engine.errors import ConfigError

READY_S = 600.0  # to load, compile and warm up
AT_ONCE = 32  # requests under way while every request is asked once
_POLL_S = 0.25


@dataclass(frozen=True)
class Sighting:
    """One run.

    rate: answers/s from burst to burst; None for fewer than two bursts. client_share, server_share:
    CPU seconds of each for every second, all threads together. memory_bytes: resident, of all
    processes of the server.
    """

    rate: float | None
    measured: Measurement
    client_share: float
    server_share: float
    memory_bytes: int


class Running:
    """A started server with a client; ready once `wait` has returned.

    Args:
        server: started.
        tuning: that it was started with.
        bodies: of every request, as this server takes them.
        depth: of the model.
    """

    def __init__(
        self, server: ServedProcess, tuning: Tuning, bodies: Sequence[Body], depth: int
    ) -> None:
        self.server = server
        self.tuning = tuning
        self._bodies = bodies
        self._depth = depth

    def wait(self) -> None:
        """Wait until a request is answered.

        Raises:
            ConfigError: the server ended, or was not ready in time.
        """
        deadline_s = time.monotonic() + READY_S
        with HttpClient(self.server.url) as client:
            while True:
                self.server.check()
                reply = _ask(client, [self._bodies[0]])[0]
                if reply.error is None:
                    return
                if time.monotonic() > deadline_s:
                    raise ConfigError(
                        f"{self.server.name} was not ready within {READY_S:.0f} s"
                        f" ({reply.error}): {self.server.last_words()}"
                    )
                time.sleep(_POLL_S)

    def answers(self) -> list[int]:
        """Return the index that each request is answered with, every request asked once.

        Raises:
            ConfigError: a request failed.
        """
        found = []
        with HttpClient(self.server.url) as client:
            target = AnswerTarget(client, self._bodies, self._depth)
            for first in range(0, len(self._bodies), AT_ONCE):
                for reply in _ask(client, self._bodies[first : first + AT_ONCE]):
                    if reply.error is not None:
                        raise ConfigError(f"{self.server.name} failed with {reply.error}")
                    found.append(target.read(reply.answer).index)
        return found

    def load(
        self, samples: Iterator[int], in_flight: int, warm_up_s: float, seconds: float
    ) -> Sighting:
        """Put the server under a closed loop's load.

        Args:
            samples: places of requests, without end.
            in_flight: requests under way.
            warm_up_s: before the window.
            seconds: the window.
        """
        with HttpClient(self.server.url) as client:
            target = AnswerTarget(client, self._bodies, self._depth)
            started_s, cpu_s = time.perf_counter(), self.server.cpu_s()
            run = closed_loop(
                target, samples, in_flight=in_flight, warm_up_s=warm_up_s, seconds=seconds
            )
            taken_s = time.perf_counter() - started_s
            server_share = (self.server.cpu_s() - cpu_s) / taken_s
            memory_bytes = self.server.memory_bytes()
        measured = measure(run, [None] * len(self._bodies))
        return Sighting(burst_rate(run), measured, run.generator_share, server_share, memory_bytes)


def burst_rate(run: Run) -> float | None:
    """Return answers/s between the first answer of the window and the first one after it.

    Answers come in bursts, a batch at a time. A window that cuts a batch's time in two would count
    it whole or not at all; this one begins and ends with a burst.
    """
    done_s = np.sort([o.done_s for o in run.outcomes if o.reading is not None])
    first = int(np.searchsorted(done_s, run.warm_up_s))
    last = int(np.searchsorted(done_s, run.warm_up_s + run.seconds))
    if last >= len(done_s):
        last = len(done_s) - 1  # nothing came after the window: up to the last one in it
    if last <= first:
        return None
    return (last - first) / float(done_s[last] - done_s[first])


def _ask(client: HttpClient, bodies: Sequence[Body]) -> list[Reply]:
    """Send all bodies at once and return the replies, in the bodies' order."""
    ended: SimpleQueue[tuple[int, Reply]] = SimpleQueue()

    def send(place: int, body: Body) -> None:
        client.post(body, lambda reply: ended.put((place, reply)))

    for place, body in enumerate(bodies):
        send(place, body)
    replies = {}
    for _ in bodies:
        try:
            place, reply = ended.get(timeout=READY_S)
        except Empty:
            raise ConfigError("a request was neither answered nor refused") from None
        replies[place] = reply
    return [replies[place] for place in range(len(bodies))]
