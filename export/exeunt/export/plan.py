"""What a model family says of a checkpoint, before anything is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from exeunt.engine.bundle.inputs import InputsSpec
from exeunt.engine.bundle.manifest import BucketSpec, LaneSpec, SegmentKind, TaskSpec
from exeunt.engine.bundle.tensors import TensorSpec

BATCH = "batch"

TensorMap = dict[str, Tensor]


@dataclass(frozen=True)
class Port:
    """One tensor of a segment's graph.

    name: in the graph. reference: where the tensor lives, as the manifest writes it. axes: its
    sizes, the batch axis first (that of tokens, where they are packed); a name is a size that
    changes from call to call.
    """

    name: str
    reference: str
    axes: tuple[int | str, ...]

    @property
    def dynamic(self) -> dict[int, str]:
        """The axes that are dynamic, with their names."""
        return {axis: size for axis, size in enumerate(self.axes) if isinstance(size, str)}


@dataclass(frozen=True)
class SegmentPlan:
    """A part of the model that becomes one graph.

    module: takes the inputs in the order of `inputs`, returns one tensor or a tuple in the order
    of `outputs`. examples: inputs to trace with; no dynamic size may be 1, or be that of another
    axis, else the exporter takes it for a constant.
    """

    name: str
    kind: SegmentKind
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    examples: tuple[Tensor, ...]


@dataclass(frozen=True)
class BundlePlan:
    """A checkpoint as a family describes it.

    whole: the model uncut, from raw tensors by name to what each head answers, by the head
    segment's name. draw: makes random raw tensors from a generator, a batch size and one of
    `lengths` (the sizes of the sequence axis to try). files: what the bundle holds beside its
    graphs, by their name there. buckets: how raw tensors are padded, by symbolic size.

    A lane with `packed` offers both layouts; the layers of both are among the segments.
    """

    family: str
    name: str
    tasks: tuple[TaskSpec, ...]
    tensors: dict[str, TensorSpec]
    inputs: InputsSpec
    lanes: tuple[LaneSpec, ...]
    segments: tuple[SegmentPlan, ...]
    whole: Callable[[Mapping[str, Tensor]], TensorMap]
    draw: Callable[..., TensorMap]
    lengths: tuple[int, ...]
    files: dict[str, Path] = field(default_factory=dict)
    buckets: dict[str, BucketSpec] = field(default_factory=dict)
