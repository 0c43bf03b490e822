"""The served engine and its life: loading, ready, draining."""

from exeunt.engine import Engine
from exeunt.engine.errors import EngineStopped, ExeuntError
from exeunt.server.errors import RETRY_AFTER_S, Draining, Loading, Unhealthy


class Service:
    """Holds the engine once it is open and knows whether requests should come here."""

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine
        self.draining = False

    def attach(self, engine: Engine) -> None:
        """Serve this engine from now on."""
        self._engine = engine

    @property
    def loaded(self) -> Engine | None:
        """The engine, None while it is being opened."""
        return self._engine

    def engine(self) -> Engine:
        """Return the engine.

        Raises:
            Loading: it is still being opened.
        """
        if self._engine is None:
            raise Loading(f"the model is being loaded: retry in {RETRY_AFTER_S} s")
        return self._engine

    def not_live(self) -> ExeuntError | None:
        """Return why only a restart helps, None while the process is sound."""
        if self._engine is not None and not self._engine.alive:
            return EngineStopped("the engine has died: restart the server")
        return None

    def not_ready(self) -> ExeuntError | None:
        """Return why requests should go elsewhere, None when they should come."""
        if self.draining:
            return Draining("the server is shutting down: use another replica")
        if self._engine is None:
            return Loading("the model is being loaded")
        if (dead := self.not_live()) is not None:
            return dead
        if not self._engine.ready:
            return Unhealthy("a segment of the model failed and is being checked: retry later")
        return None
