"""The future of a request."""

from concurrent.futures import Future, InvalidStateError
from threading import Lock

from exeunt.engine.admission import Place
from exeunt.engine.answer import Answer


class Pending(Future[Answer]):
    """A future that ends exactly once, whoever is first: the engine, or a caller that cancels.

    It is never marked as running, so that a caller can cancel it at any time. place: is given back
    before the caller can see the end, so that whoever has an answer finds room for the next sample.
    """

    def __init__(self, place: Place | None = None) -> None:
        super().__init__()
        self._place = place
        self._notified = Lock()

    def cancel(self) -> bool:
        """Give the request up; return whether that ended the future."""
        ended = super().cancel()
        if ended:
            self._give_back()
            # `concurrent.futures.wait` sleeps until this is said, which an executor would do.
            if self._notified.acquire(blocking=False):
                self.set_running_or_notify_cancel()
        return ended

    def resolve(self, answer: Answer) -> bool:
        """Set the answer; return whether this call ended the future."""
        self._give_back()
        try:
            self.set_result(answer)
        except InvalidStateError:
            return False
        return True

    def fail(self, error: Exception) -> bool:
        """Set an error; return whether this call ended the future."""
        self._give_back()
        try:
            self.set_exception(error)
        except InvalidStateError:
            return False
        return True

    def _give_back(self) -> None:
        if self._place is not None:
            self._place.give_back()
