"""The future of a request."""

from concurrent.futures import Future, InvalidStateError

from exeunt.engine.answer import Answer


class Pending(Future[Answer]):
    """A future that ends exactly once, whoever is first: the engine, or a caller that cancels.

    It is never marked as running, so that a caller can cancel it at any time.
    """

    def resolve(self, answer: Answer) -> bool:
        """Set the answer; return whether this call ended the future."""
        try:
            self.set_result(answer)
        except InvalidStateError:
            return False
        return True

    def fail(self, error: Exception) -> bool:
        """Set an error; return whether this call ended the future."""
        try:
            self.set_exception(error)
        except InvalidStateError:
            return False
        return True
