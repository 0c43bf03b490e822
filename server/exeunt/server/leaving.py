"""Working for a client only as long as it is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from exeunt.engine.errors import RequestCancelled
from exeunt.server.errors import DeadlinePassed

T = TypeVar("T")


async def unless_left(
    receive: Receive, work: Coroutine[Any, Any, T], deadline_s: float | None = None
) -> T:
    """Return the result of `work`, which is cancelled when the client leaves or the time is up.

    Args:
        receive: of a request whose body has been read.
        work: has ended, or been cancelled and has ended, when this returns.
        deadline_s: on the event loop's clock; None sets no limit.

    Raises:
        RequestCancelled: the client left.
        DeadlinePassed: the work was not done in time.
    """
    loop = asyncio.get_running_loop()
    working = loop.create_task(work)
    leaving = loop.create_task(_left(receive))
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


async def _left(receive: Receive) -> None:
    """Return once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
