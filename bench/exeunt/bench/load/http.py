"""A server over HTTP as a target: connections that are kept, in a thread with an event loop."""

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from yarl import URL

from exeunt.bench.load.bodies import Body
from exeunt.bench.load.outcome import Done, Reading, Reply

T = TypeVar("T")

REQUEST_TIMEOUT_S = 60.0
# Shorter than servers keep idle connections (uvicorn: 5 s): one that a server closes just as a
# request goes out would count as an error that no real client library would show.
KEEP_ALIVE_S = 4.0


class HttpClient:
    """The event loop that sends; any number of targets share it and its connections.

    Args:
        url: the server's address, without a path.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._url = URL(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="exeunt-load")
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = self._call(self._open())
        self._predict = self._url / "predict"

    def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body of a GET; raises `aiohttp.ClientError` or TimeoutError."""
        return self._call(self._get(path))

    def post(self, body: Body, done: Done) -> None:
        """Send a body to `/predict` from any thread; see `Target.send`."""
        self._loop.call_soon_threadsafe(self._start, body, done)

    def abandon(self) -> None:
        """Cancel what is under way."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._call(self._session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
        )

    async def _get(self, path: str) -> tuple[int, bytes]:
        async with self._session.get(self._url / path.lstrip("/")) as response:
            return response.status, await response.read()

    def _start(self, body: Body, done: Done) -> None:
        task = self._loop.create_task(self._ask(body, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, body: Body, done: Done) -> None:
        headers = {"Content-Type": body.content_type}
        status, content, error = 0, b"", None
        sent_s = time.perf_counter()
        try:
            async with self._session.post(
                self._predict, data=body.content, headers=headers
            ) as response:
                status, content = response.status, await response.read()
        except (TimeoutError, asyncio.CancelledError):
            error = "timeout"
        except (aiohttp.ClientError, OSError):
            error = "connection"
        done_s = time.perf_counter()
        if error is None and status != 200:
            error = _error_type(status, content)
        done(Reply(sent_s, done_s, error, content))


class HttpTarget:
    """Sends prepared bodies to a server.

    Args:
        client: connected to it.
        bodies: of each sample.
    """

    def __init__(self, client: HttpClient, bodies: Sequence[Body]) -> None:
        self._client = client
        self._bodies = bodies

    def send(self, sample: int, done: Done) -> None:
        """Send a sample's body; see `Target.send`."""
        self._client.post(self._bodies[sample], done)

    def abandon(self) -> None:
        """Cancel what is under way, of all targets of the client."""
        self._client.abandon()

    def read(self, answer: object) -> Reading:
        """Return what a response's body says."""
        if not isinstance(answer, bytes):
            raise ValueError(f"expected a body, found a {type(answer).__name__}")
        content = json.loads(answer)
        try:
            lanes = content["lanes"].values()
            return Reading(
                label=content["label"],
                index=int(content["index"]),
                exit_layer=int(content["exit_layer"]),
                depth=int(content["depth"]),
                layers_run=sum(int(lane["exit_layer"]) for lane in lanes),
                layers_possible=sum(int(lane["depth"]) for lane in lanes),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the body is no answer of /predict: {error}") from None

    def generator_cpu_s(self) -> float:
        """Return the CPU seconds of this process: it does nothing but generate load."""
        return time.process_time()


def _error_type(status: int, content: bytes) -> str:
    try:
        found = json.loads(content)["error_type"]
    except (ValueError, KeyError, TypeError):
        found = None
    return found if isinstance(found, str) and found else f"http_{status}"
