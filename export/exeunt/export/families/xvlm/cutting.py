"""Segments whose ports, and random examples to trace with, follow from the manifest's records."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from exeunt.engine.bundle.manifest import LaneSpec, SegmentKind
from exeunt.engine.bundle.tensors import LOOP_TENSORS, Dtype, Reference, TensorSpec
from exeunt.export.families.hf.cutting import graph_name
from exeunt.export.plan import BATCH, Port, SegmentPlan

EXAMPLE_BATCH = 3  # no two of an example's dynamic sizes may be alike
SEED = 0


class Segments:
    """Collects segments; unlike `hf.cutting.Cutter` it knows loops, and rows that one row sees.

    Args:
        tensors: the raw tensors of one sample.
        lanes: all of them.
        sizes: of an example, by symbolic size.
    """

    def __init__(
        self,
        tensors: Mapping[str, TensorSpec],
        lanes: Sequence[LaneSpec],
        sizes: Mapping[str, int],
    ) -> None:
        self._tensors = tensors
        self._lanes = {lane.name: lane for lane in lanes}
        self._sizes = {BATCH: EXAMPLE_BATCH, **sizes}
        self._generator = torch.Generator().manual_seed(SEED)
        self.plans: list[SegmentPlan] = []

    def add(
        self,
        lane: str,
        name: str,
        kind: SegmentKind,
        module: nn.Module,
        reads: Sequence[str],
        writes: Sequence[str],
    ) -> None:
        """Add a segment of a lane.

        Args:
            lane: by name.
            name: the segment's.
            kind: of it.
            module: takes and returns tensors in the order of `reads` and `writes`.
            reads: references.
            writes: states of the lane; `head.logits` of a head.
        """
        spec = self._lanes[lane]
        inputs = tuple(Port(graph_name(text), text, self._axes(spec, text)) for text in reads)
        outputs = tuple(self._written(spec, kind, text, reads) for text in writes)
        examples = tuple(
            self._example(port, self._dtype(spec, text))
            for port, text in zip(inputs, reads, strict=True)
        )
        self.plans.append(SegmentPlan(name, kind, module, inputs, outputs, examples))

    def layers(
        self, lane: str, modules: Sequence[nn.Module], reads: Sequence[Sequence[str]]
    ) -> None:
        """Add a lane's layers, each of which reads other states and rewrites `hidden`."""
        named = zip(self._lanes[lane].layers, modules, reads, strict=True)
        for name, module, read in named:
            self.add(lane, name, "layer", module, read, ["hidden"])

    def _axes(self, lane: LaneSpec, text: str) -> tuple[int | str, ...]:
        scope, name = Reference.parse(text)
        if scope == "":
            return BATCH, *lane.state[name].shape
        if scope == "loop":
            return BATCH, *LOOP_TENSORS[name].shape
        if scope == "input":
            spec = self._tensors[name]
            rows = max(other.rows for other in self._lanes.values()) if spec.per == "row" else 1
            return BATCH, *((rows,) if rows > 1 and lane.rows == 1 else ()), *spec.shape
        rows = self._lanes[scope].rows
        seen = (rows,) if rows > 1 and lane.rows == 1 else ()  # one row sees all of them
        return BATCH, *seen, *self._lanes[scope].state[name].shape

    def _written(self, lane: LaneSpec, kind: SegmentKind, text: str, reads: Sequence[str]) -> Port:
        if text == "head.logits":
            assert lane.classes is not None, "a lane with heads has classes"
            return Port("logits", text, (BATCH, lane.classes))
        state = lane.state[text]
        # Of a cache a segment writes one token.
        shape = state.shape[1:] if state.role == "cache" else state.shape
        name = f"next_{text}" if text in reads or kind == "layer" else text
        return Port(name, text, (BATCH, *shape))

    def _dtype(self, lane: LaneSpec, text: str) -> Dtype:
        scope, name = Reference.parse(text)
        if scope == "input":
            return self._tensors[name].dtype
        if scope == "loop":
            return LOOP_TENSORS[name].dtype
        return (self._lanes[scope] if scope else lane).state[name].dtype

    def _example(self, port: Port, dtype: Dtype) -> Tensor:
        shape = [self._sizes[axis] if isinstance(axis, str) else axis for axis in port.axes]
        if dtype == "int64":
            return torch.randint(0, 2, shape, generator=self._generator)
        return torch.randn(shape, generator=self._generator)
