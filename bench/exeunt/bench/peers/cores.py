"""How full depth in static batches uses the cores: by one caller or several at a time."""

from dataclasses import dataclass

from exeunt.engine.errors import ConfigError


@dataclass(frozen=True)
class Cores:
    """One way to use the cores.

    callers: threads of Python that run batches at the same time. threads: compute threads of all of
    them together.
    """

    callers: int
    threads: int

    def __post_init__(self) -> None:
        """Refuse callers that could not have equally many threads."""
        if self.callers < 1 or self.threads % self.callers:
            raise ConfigError(
                f"{self.threads} compute threads cannot be shared out evenly among {self.callers}"
                " callers: give a number that divides the threads"
            )

    @property
    def pool_threads(self) -> int:
        """Threads of ONNX Runtime's pool, as `open_backend` has it: each caller computes too."""
        return self.threads - self.callers + 1


def ways_in_process(backend: str, threads: int, streams: int) -> tuple[Cores, ...]:
    """Return the ways to use an engine's cores that can be had in the engine's own process.

    ONNX Runtime has one thread pool a process, which is the engine's: with several streams no other
    number of callers comes to the same threads.

    Args:
        backend: its name.
        threads: the engine's compute threads, of all streams together.
        streams: batches that the engine runs at the same time.
    """
    own = Cores(streams, threads)
    return (own,) if streams == 1 or backend == "onnxruntime" else (Cores(1, threads), own)
