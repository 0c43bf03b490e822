"""EfficientVLM's L0 masks, applied by leaving out heads and neurons.

Checkpoints are saved unpruned, beside the logarithms alpha of the masks' hard-concrete
distributions. Evaluation takes masks of 0 and 1, one row a layer.

Reference: EfficientVLM, Section 3.2; Louizos et al. 2018, Eq. (11-12)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from exeunt.export.errors import ExportError
from exeunt.export.families.state_dict import MisfitError, required
from exeunt.export.families.weights import Weights
from exeunt.export.families.xvlm.narrow import (
    NarrowCrossMixing,
    NarrowSelfAttention,
    NarrowVitAttention,
)
from exeunt.export.layers.bert import BertLayer, BertOutput, BertSelfAttention
from exeunt.export.layers.cross import BertCrossLayer, BertCrossMixing
from exeunt.export.layers.vit import VitAttention, VitLayer

L0 = "l0_module."
TEMPERATURE, LOWEST, HIGHEST = 2 / 3, -0.1, 1.1  # of the hard-concrete distribution
SHARPNESS = 0.8  # of the soft mask that orders the entries
EPSILON = 1e-6  # keeps probabilities off 0 and 1
PARTS = ("vision", "text", "cross", "decoder")


@dataclass(frozen=True)
class LayerMasks:
    """What is kept of one layer: bool[heads] and bool[neurons]; cross where it has such heads."""

    heads: Tensor
    neurons: Tensor
    cross: Tensor | None = None


@dataclass(frozen=True)
class Masks:
    """The masks of all layers, of each part in their order."""

    vision: Sequence[LayerMasks]
    text: Sequence[LayerMasks]
    cross: Sequence[LayerMasks]
    decoder: Sequence[LayerMasks] = ()


def hard_mask(loga: Tensor) -> Tensor:
    """Return bool[N], which entries evaluation keeps, of the logarithms f32[N] of alpha.

    As many are dropped as the distribution expects, those with the smallest soft masks.
    """
    at_zero = -LOWEST / (HIGHEST - LOWEST)
    stretched = (math.log(at_zero) - math.log(1 - at_zero)) * TEMPERATURE
    zero = torch.sigmoid(stretched - loga).clamp(EPSILON, 1 - EPSILON)  # P(z = 0)
    dropped = round(len(loga) - torch.sum(1 - zero).item())
    keep = torch.ones(len(loga), dtype=torch.bool)
    soft = torch.sigmoid(loga / TEMPERATURE * SHARPNESS)
    keep[torch.topk(soft, dropped, largest=False).indices] = False
    return keep


def has_masks(weights: Weights) -> bool:
    """Return whether a checkpoint has L0 masks."""
    return any(name.startswith(L0) for name in weights.tensors)


def read_masks(
    weights: Weights, layers: Mapping[str, int], heads: int, neurons: int, *, intended_rows: bool
) -> Masks:
    """Return the masks of a checkpoint.

    Args:
        weights: as read.
        layers: of each of `PARTS` that the model has; all have the same heads and neurons.
        heads: of a layer.
        neurons: the same.
        intended_rows: whether cross layers get their own rows. Official code puts the text's rows
            before the cross layers' and then counts from the first, in training too: cross layers
            have the text's neurons, and the heads that stand there.

    Raises:
        MisfitError: a tensor is missing or of another shape.
        ExportError: its numbers are not finite.
    """
    found_heads, found_neurons = {}, {}
    for part, count in layers.items():
        rows = 2 * count if part in ("cross", "decoder") else count
        found_heads[part] = _read(weights, f"{part}_head_loga", rows, heads)
        found_neurons[part] = _read(weights, f"{part}_int_loga", count, neurons)

    def plain(part: str) -> list[LayerMasks]:
        pairs = zip(found_heads[part], found_neurons[part], strict=True)
        return [LayerMasks(kept, wide) for kept, wide in pairs]

    def crossed(all_heads: Tensor, all_neurons: Tensor, first: int, count: int) -> list[LayerMasks]:
        return [
            LayerMasks(
                heads=all_heads[first + 2 * layer],
                neurons=all_neurons[first + layer],
                cross=all_heads[first + 2 * layer + 1],
            )
            for layer in range(count)
        ]

    joined = [torch.cat([found["text"], found["cross"]]) for found in (found_heads, found_neurons)]
    first = layers["text"] if intended_rows else 0
    decoder = layers.get("decoder", 0)
    return Masks(
        vision=plain("vision"),
        text=plain("text"),
        cross=crossed(joined[0], joined[1], first, layers["cross"]),
        decoder=crossed(found_heads["decoder"], found_neurons["decoder"], 0, decoder)
        if decoder
        else (),
    )


def _read(weights: Weights, name: str, rows: int, size: int) -> Tensor:
    loga = required(weights, L0 + name, axes=2)
    if loga.shape != (rows, size):
        raise MisfitError(
            f"{weights.file}: {L0 + name!r} has the shape {list(loga.shape)}, expected"
            f" {[rows, size]}: its config is of another checkpoint",
            tuple(weights.tensors),
        )
    if not torch.isfinite(loga).all():
        raise ExportError(
            f"{weights.file}: {L0 + name!r} has numbers that are not finite: no mask follows from"
            " them"
        )
    return torch.stack([hard_mask(row) for row in loga])


def prune_vit(layer: VitLayer, masks: LayerMasks) -> None:
    """Leave out heads and neurons of a vision layer."""
    attention = layer.self_attn
    assert isinstance(attention, VitAttention), "X-VLM's has three projections"
    heads = _Kept.of(masks.heads, attention.q_proj.out_features // attention.num_heads)
    narrow = NarrowVitAttention(
        heads.outputs(attention.q_proj),
        heads.outputs(attention.k_proj),
        heads.outputs(attention.v_proj),
        heads.inputs(attention.out_proj),
        heads.count,
    )
    layer.add_module("self_attn", narrow)
    neurons = _Kept.of(masks.neurons, 1)
    layer.mlp.fc1, layer.mlp.fc2 = neurons.outputs(layer.mlp.fc1), neurons.inputs(layer.mlp.fc2)


def prune_bert(layer: BertLayer | BertCrossLayer, masks: LayerMasks) -> None:
    """Leave out heads and neurons of a text layer, and of its cross-attention."""
    inner = layer.attention.self
    heads = _Kept.of(masks.heads, inner.query.out_features // inner.num_heads)
    layer.attention.add_module("self", NarrowSelfAttention(*heads.projections(inner), heads.count))
    heads.narrow(layer.attention.output)
    if isinstance(layer, BertCrossLayer):
        assert masks.cross is not None, "a cross layer has masks for both"
        cross = layer.crossattention.self
        heads = _Kept.of(masks.cross, cross.query.out_features // cross.num_heads)
        narrow = NarrowCrossMixing(*heads.projections(cross), heads.count)
        layer.crossattention.add_module("self", narrow)
        heads.narrow(layer.crossattention.output)
    neurons = _Kept.of(masks.neurons, 1)
    layer.intermediate.dense = neurons.outputs(layer.intermediate.dense)
    neurons.narrow(layer.output)


@dataclass(frozen=True)
class _Kept:
    """Which of a layer's heads or neurons stay.

    A layer that loses all of them keeps one that adds nothing, so that its graph reads and
    computes what those of the other layers do.

    columns: i64, of what they make. share: 1, or 0 of one that adds nothing. count: of them.
    """

    columns: Tensor
    share: float
    count: int

    @classmethod
    def of(cls, mask: Tensor, size: int) -> "_Kept":
        """Return what a mask bool[N] keeps of N parts of `size` columns each."""
        some = bool(mask.any())
        kept = mask.nonzero()[:, 0] if some else torch.zeros(1, dtype=torch.int64)
        columns = (kept[:, None] * size + torch.arange(size)).flatten()
        return cls(columns, float(some), len(kept))

    def projections(
        self, attention: BertSelfAttention | BertCrossMixing
    ) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Return what makes the kept heads' queries, keys and values."""
        parts = attention.query, attention.key, attention.value
        query, key, value = (self.outputs(part) for part in parts)
        return query, key, value

    def outputs(self, linear: nn.Linear) -> nn.Linear:
        """Return a linear map that makes only the kept columns."""
        return _linear(linear.weight[self.columns], linear.bias[self.columns])

    def inputs(self, linear: nn.Linear) -> nn.Linear:
        """Return a linear map that reads only the kept columns."""
        return _linear(linear.weight[:, self.columns] * self.share, linear.bias)

    def narrow(self, output: BertOutput) -> None:
        """Let a layer's output read only the kept columns."""
        output.dense = self.inputs(output.dense)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return linear
