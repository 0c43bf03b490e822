"""Cutting a model into segments: ports and example tensors follow from the lanes' states."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from exeunt.engine.bundle.manifest import LaneSpec, SegmentKind
from exeunt.engine.bundle.tensors import Reference, StateSpec, TensorSpec
from exeunt.export.plan import BATCH, Port, SegmentPlan, TensorMap


def carried(*shape: int | str) -> StateSpec:
    """Return a float32 state that every layer rewrites."""
    return StateSpec(role="carried", dtype="float32", shape=shape)


def constant(*shape: int | str) -> StateSpec:
    """Return a float32 state that is written on entering."""
    return StateSpec(role="constant", dtype="float32", shape=shape)


def layer_names(stem: str, count: int) -> tuple[str, ...]:
    """Return the segments' names of a lane's layers, first layer first."""
    return tuple(f"{stem}.{layer:02d}" for layer in range(1, count + 1))


class Cutter:
    """Collects a model's segments in the order in which rows meet them.

    Each module is run on what those before it have answered, so that its own examples have the
    shapes that it will meet.

    Args:
        tensors: the raw tensors of one sample.
        raw: an example of each; no two of their dynamic sizes may be alike, and none may be 1.
    """

    def __init__(self, tensors: Mapping[str, TensorSpec], raw: TensorMap) -> None:
        self._tensors = tensors
        self._raw = raw
        self._lanes: dict[str, LaneSpec] = {}
        self._states: dict[str, TensorMap] = {}
        self.segments: list[SegmentPlan] = []

    def lane(self, lane: LaneSpec, entry: nn.Module, reads: Sequence[str]) -> None:
        """Enter a lane: its entry reads the references `reads` and writes every state.

        The module takes and returns tensors in the order of `reads` and of the lane's states.
        """
        assert lane.entry is not None, "these lanes are entered through their entry"
        self._lanes[lane.name] = lane
        self._states[lane.name] = {}
        joins = any(Reference.parse(text).scope != "input" for text in reads)
        kind: SegmentKind = "join" if joins else "entry"
        self._add(lane, lane.entry, kind, entry, reads, tuple(lane.state))

    def layers(self, lane: LaneSpec, modules: Sequence[nn.Module], reads: Sequence[str]) -> None:
        """Add the lane's layers; each reads the states `reads` and rewrites the carried ones."""
        written = tuple(name for name, spec in lane.state.items() if spec.role == "carried")
        for name, module in zip(lane.layers, modules, strict=True):
            self._add(lane, name, "layer", module, reads, written)

    def head(self, lane: LaneSpec, name: str, module: nn.Module, reads: Sequence[str]) -> None:
        """Add a head of the lane that reads the states `reads`."""
        self._add(lane, name, "head", module, reads, ("head.logits",))

    def _add(
        self,
        lane: LaneSpec,
        name: str,
        kind: SegmentKind,
        module: nn.Module,
        reads: Sequence[str],
        writes: Sequence[str],
    ) -> None:
        grouped = kind == "head" and lane.rows > 1  # a group's head reads all of its rows at once
        examples = [self._example(lane, text, grouped) for text in reads]
        with torch.no_grad():
            found = module(*examples)
        outputs = found if isinstance(found, tuple) else (found,)
        self.segments.append(
            SegmentPlan(
                name,
                kind,
                module,
                tuple(self._port(lane, text, grouped) for text in reads),
                tuple(self._written(lane, text, set(reads)) for text in writes),
                tuple(examples),
            )
        )
        if kind != "head":
            self._states[lane.name] |= dict(zip(writes, outputs, strict=True))

    def _example(self, lane: LaneSpec, text: str, grouped: bool) -> Tensor:
        scope, name = Reference.parse(text)
        if scope == "input":
            tensor = self._raw[name]
            if self._tensors[name].per == "row":
                return tensor.flatten(0, 1).contiguous()
            return tensor.repeat_interleave(lane.rows, 0).contiguous()
        tensor = self._states[scope or lane.name][name]
        return tensor.reshape(-1, lane.rows, *tensor.shape[1:]) if grouped else tensor.contiguous()

    def _port(self, lane: LaneSpec, text: str, grouped: bool) -> Port:
        scope, name = Reference.parse(text)
        spec: TensorSpec | StateSpec
        if scope == "input":
            spec = self._tensors[name]
        else:
            spec = (self._lanes[scope] if scope else lane).state[name]
        rows = (lane.rows,) if grouped else ()
        return Port(graph_name(text), text, (BATCH, *rows, *spec.shape))

    def _written(self, lane: LaneSpec, text: str, read: set[str]) -> Port:
        if text == "head.logits":
            assert lane.classes is not None, "a lane with heads has classes"
            return Port("logits", text, (BATCH, lane.classes))
        name = f"next_{text}" if text in read else text
        return Port(name, text, (BATCH, *lane.state[text].shape))


def graph_name(text: str) -> str:
    """Return the name in a graph of what a reference means."""
    scope, name = Reference.parse(text)
    return name if scope in ("", "input") else f"{scope}_{name}"
