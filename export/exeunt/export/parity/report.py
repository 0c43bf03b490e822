"""`parity.json`: the measured errors, and the tolerance that each of them needed."""

from typing import Literal

from exeunt.engine.bundle.manifest import SegmentParity
from exeunt.engine.bundle.tensors import Frozen

PARITY_FILE = "parity.json"
LADDER = (
    *(0.0, 1e-7, 2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2),
    *(2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),  # of int8
)


def parity_of(error: float) -> SegmentParity:
    """Return the error with the smallest tolerance of the ladder that holds it.

    Beyond the ladder the tolerance is the error itself.
    """
    holds = (step for step in LADDER if error <= step)
    return SegmentParity(max_abs_error=error, tolerance=next(holds, error))


class Measured(Frozen):
    """Errors over one kind of inputs.

    samples: how many. batch_sizes, lengths: the sizes tried. segments: each graph against its
    module, given the module's own inputs. composed: all graphs chained against the whole model, by
    head. same_answers: the share of samples and heads with the same best label.
    """

    samples: int
    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    segments: dict[str, SegmentParity]
    composed: dict[str, SegmentParity]
    same_answers: float


class BatchParity(Frozen):
    """A row alone against the same row in a batch, over every output of every graph.

    rows: how many were compared. bit_exact: whether no bit differed. worst: the segment of the
    largest error, with the batch that it was seen in; empty where no bit differed.
    """

    rows: int
    max_abs_error: float
    bit_exact: bool
    worst: str = ""


class PackedParity(Frozen):
    """The same of the layers on packed tokens.

    measured: over random tensors and examples; batch: a
    row alone against the same row beside others of other lengths.
    """

    measured: Measured
    batch: BatchParity


class ParityReport(Frozen):
    """What export measured.

    allowed: the tolerance that export was given. random: over random tensors. real: over the
    checkpoint's own examples, prepared as a server prepares them; null where it has none. batch: of
    the lanes' own layout. packed: null where no lane has packed layers.
    """

    format: Literal[1] = 1
    reference: str
    runtime: str
    allowed: float
    ladder: tuple[float, ...] = LADDER
    random: Measured
    real: Measured | None
    batch: BatchParity
    packed: PackedParity | None = None

    def segment(self, name: str) -> SegmentParity:
        """Return the worst error of a segment over all inputs."""
        errors = [kind.segments[name] for kind in self._kinds() if name in kind.segments]
        return parity_of(max(error.max_abs_error for error in errors))

    @property
    def composed(self) -> SegmentParity:
        """The worst error of the chained graphs over all inputs and heads."""
        errors = [error for kind in self._kinds() for error in kind.composed.values()]
        return parity_of(max(error.max_abs_error for error in errors))

    def _kinds(self) -> list[Measured]:
        packed = [self.packed.measured] if self.packed else []
        return [self.random, *([self.real] if self.real else []), *packed]
