"""A stack of layers over one `joint` lane: its lane, its segments, and the model uncut."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from exeunt.engine.bundle.manifest import LaneSpec
from exeunt.engine.bundle.tensors import StateSpec, TensorSpec
from exeunt.export.plan import BATCH, Port, SegmentPlan, TensorMap

LANE, ENTRY, FINAL = "joint", "embed", "head.final"
CLASSIFICATION = ("entropy", "patience", "cosine", "confidence", "margin")


@dataclass(frozen=True)
class JointModel:
    """A single-stream model, cut: an entry, layers, and heads.

    tensors: the raw tensors of one sample, in the order of the entry's arguments. entry: returns
    the state f32[B, T, D] and its mask f32[B, T]. layers: each takes state and mask and returns
    the state. heads: by layer, the exit heads. final_head: answers at full depth, and at every exit
    where there are no exit heads. reads: what a head takes, in order; a head of several rows takes
    each with an axis of rows after the batch axis. width: D. classes: logits of every head. rows: a
    sample has, which decide together.
    """

    tensors: Mapping[str, TensorSpec]
    entry: nn.Module
    layers: tuple[nn.Module, ...]
    width: int
    classes: int
    heads: Mapping[int, nn.Module] = field(default_factory=dict)
    final_head: nn.Module | None = None
    reads: tuple[Literal["hidden", "mask"], ...] = ("hidden",)
    rows: int = 1

    def lane(self) -> LaneSpec:
        """Return the lane; without exit heads only cosine can judge it."""
        layers = range(1, len(self.layers) + 1)
        heads = {layer: head_name(layer) for layer in self.heads}
        scores: tuple[str, ...] = CLASSIFICATION if self.classes > 1 else ("cosine",)
        if not heads:
            heads, scores = dict.fromkeys(layers, FINAL), ("cosine",)
        return LaneSpec.model_validate(
            {
                "name": LANE,
                "state": {
                    "hidden": StateSpec(role="carried", dtype="float32", shape=("T", self.width)),
                    "mask": StateSpec(role="constant", dtype="float32", shape=("T",)),
                },
                "entry": ENTRY,
                "layers": tuple(layer_name(layer) for layer in layers),
                "heads": heads,
                "classes": self.classes,
                "scores": scores,
                "compare": {"hidden": "mask"},
                **({"final_head": FINAL} if self.heads and self.final_head else {}),
                **({"rows": self.rows, "unit": "group"} if self.rows > 1 else {}),
            }
        )

    def segments(self, raw: TensorMap) -> tuple[SegmentPlan, ...]:
        """Return every segment.

        Args:
            raw: raw tensors of some samples to trace with, no two of their sizes equal.
        """
        inputs = [self.by_row(raw[name], name) for name in self.tensors]
        with torch.no_grad():
            hidden, mask = (tensor.contiguous() for tensor in self.entry(*inputs))
        state = {
            "hidden": Port("hidden", "hidden", (BATCH, "T", self.width)),
            "mask": Port("mask", "mask", (BATCH, "T")),
        }
        entry = SegmentPlan(
            name=ENTRY,
            kind="entry",
            module=self.entry,
            inputs=tuple(
                Port(name, f"input.{name}", (BATCH, *spec.shape))
                for name, spec in self.tensors.items()
            ),
            outputs=tuple(state.values()),
            examples=tuple(inputs),
        )
        written = (Port("next_hidden", "hidden", (BATCH, "T", self.width)),)
        layers = [
            SegmentPlan(
                layer_name(place), "layer", module, tuple(state.values()), written, (hidden, mask)
            )
            for place, module in enumerate(self.layers, 1)
        ]
        reads = tuple(self._of_group(state[name]) for name in self.reads)
        examples = {"hidden": self.grouped(hidden), "mask": self.grouped(mask)}
        logits = (Port("logits", "head.logits", (BATCH, self.classes)),)
        heads = [
            SegmentPlan(
                name, "head", module, reads, logits, tuple(examples[read] for read in self.reads)
            )
            for name, module in self._named_heads().items()
        ]
        return (entry, *layers, *heads)

    def whole(self, tensors: Mapping[str, Tensor]) -> TensorMap:
        """Return the logits f32[B, C] of every head, by its segment's name; see `BundlePlan`."""
        hidden, mask = self.entry(*(self.by_row(tensors[name], name) for name in self.tensors))
        logits = {}
        for layer, module in enumerate(self.layers, 1):
            hidden = module(hidden, mask)
            if layer in self.heads:
                logits[head_name(layer)] = self._answer(self.heads[layer], hidden, mask)
        if self.final_head is not None:
            logits[FINAL] = self._answer(self.final_head, hidden, mask)
        return logits

    def by_row(self, tensor: Tensor, name: str) -> Tensor:
        """Return a raw tensor [B, ...] as the entry's rows see it, [B * rows, ...]."""
        if self.rows == 1:
            return tensor
        if self.tensors[name].per == "row":
            return tensor.flatten(0, 1)
        return tensor.repeat_interleave(self.rows, dim=0)

    def grouped(self, tensor: Tensor) -> Tensor:
        """Return rows [B * rows, ...] as a head sees them: [B, rows, ...], or as they are."""
        return tensor if self.rows == 1 else tensor.reshape(-1, self.rows, *tensor.shape[1:])

    def _answer(self, head: nn.Module, hidden: Tensor, mask: Tensor) -> Tensor:
        state = {"hidden": self.grouped(hidden), "mask": self.grouped(mask)}
        logits: Tensor = head(*(state[name] for name in self.reads))
        return logits

    def _named_heads(self) -> dict[str, nn.Module]:
        named = {head_name(layer): head for layer, head in self.heads.items()}
        return named | ({FINAL: self.final_head} if self.final_head is not None else {})

    def _of_group(self, port: Port) -> Port:
        if self.rows == 1:
            return port
        return Port(port.name, port.reference, (BATCH, self.rows, *port.axes[1:]))


def layer_name(layer: int) -> str:
    """Return the name of a layer's segment."""
    return f"layer.{layer:02d}"


def head_name(layer: int) -> str:
    """Return the name of the segment of a layer's exit head."""
    return f"head.{layer:02d}"
