"""Working for a client only as long as it is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, final

from starlette.types import Receive

from exeunt.engine.errors import RequestCancelled
from exeunt.server.errors import DeadlinePassed

T = TypeVar("T")


@final
class Client:
    """Who sent a request. receive: of the request, to be used once its body has been read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_left = False

    async def unless_left(self, work: Coroutine[Any, Any, T], deadline_s: float | None = None) -> T:
        """Return the result of `work`, which is cancelled when the client leaves or time is up.

        Args:
            work: has ended, cancelled or not, when this returns.
            deadline_s: on the event loop's clock; None sets no limit.

        Raises:
            RequestCancelled: the client left.
            DeadlinePassed: the work was not done in time.
        """
        loop = asyncio.get_running_loop()
        working = loop.create_task(work)
        leaving = loop.create_task(self._left())
        try:
            await asyncio.wait(
                {working, leaving},
                timeout=None if deadline_s is None else deadline_s - loop.time(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if working.done():
                return working.result()
            if leaving.done():
                raise RequestCancelled("the client left")
            raise DeadlinePassed("no answer in time: retry later, or send fewer samples at once")
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    async def _left(self) -> None:
        """Return once the client has left, as often as it is asked."""
        while not self._has_left:  # some servers say it only once
            self._has_left = (await self._receive())["type"] == "http.disconnect"
