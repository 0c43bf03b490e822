"""Layers as other families have them: traced, then run by the torch backend."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exeunt.engine.backends.torch.graph import load_graph
from exeunt.export.onnx_writer import write_segment
from exeunt.export.plan import Port, SegmentPlan

WIDTH = 16


class _BertLayer(nn.Module):
    """Post-LN attention as BERT's, by torch's own attention operator under an additive mask."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(2)])
        self.grow, self.shrink = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        batch, tokens, _ = hidden.shape
        query, key, value = (
            part(hidden).view(batch, tokens, 4, WIDTH // 4).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        bias = torch.where(mask[:, None, None, :] > 0, 0.0, -1e4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, WIDTH)
        hidden = self.norms[0](hidden + self.out(mixed))
        updated: Tensor = self.norms[1](hidden + self.shrink(torch.tanh(self.grow(hidden))))
        return updated


class _VitEntry(nn.Module):
    """Linear patches, a class token and positions that grow with the text, as ViLT's."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, stride=8)
        self.cls = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.words = nn.Embedding(11, WIDTH)
        self.positions = nn.Embedding(20, WIDTH)

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        image = self.patches(pixels).flatten(2).transpose(1, 2)
        places = torch.arange(ids.shape[1])
        text = self.words(ids) + self.positions(places)[None]
        hidden = torch.cat([self.cls.expand(len(ids), -1, -1), image, text], dim=1)
        seen = torch.cat([torch.ones(len(ids), 17), (ids != 0).float()], dim=1)
        causal = torch.tril(torch.ones(ids.shape[1], ids.shape[1]))
        return hidden, seen + 0.0 * causal.mean()


def _compare(plan: SegmentPlan, file: Path, inputs: list[Tensor]) -> None:
    write_segment(plan, file)
    arrays = {port.name: value.numpy() for port, value in zip(plan.inputs, inputs, strict=True)}
    found = load_graph(plan.name, file).run(arrays)
    with torch.inference_mode():
        expected = plan.module(*inputs)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for port, tensor in zip(plan.outputs, wanted, strict=True):
        np.testing.assert_allclose(found[port.name], tensor.numpy(), atol=1e-5)


def test_bert_layer(tmp_path: Path) -> None:
    torch.manual_seed(1)
    hidden = Port("hidden", "hidden", ("batch", "T", WIDTH))
    mask = Port("mask", "mask", ("batch", "T"))
    written = Port("next_hidden", "hidden", ("batch", "T", WIDTH))
    examples = (torch.randn(3, 7, WIDTH), torch.ones(3, 7))
    plan = SegmentPlan("bert", "layer", _BertLayer(), (hidden, mask), (written,), examples)
    seen = (torch.arange(9)[None] < torch.tensor([[9], [4], [1], [6]])).float()
    _compare(plan, tmp_path / "bert.onnx", [torch.randn(4, 9, WIDTH), seen])


def test_vit_entry(tmp_path: Path) -> None:
    torch.manual_seed(1)
    pixels = Port("pixels", "input.pixels", ("batch", 3, 32, 32))
    ids = Port("ids", "input.ids", ("batch", "S"))
    hidden = Port("hidden", "hidden", ("batch", "T", WIDTH))
    mask = Port("mask", "mask", ("batch", "T"))
    examples = (torch.randn(3, 3, 32, 32), torch.ones(3, 5, dtype=torch.int64))
    plan = SegmentPlan("vit", "entry", _VitEntry(), (pixels, ids), (hidden, mask), examples)
    _compare(plan, tmp_path / "vit.onnx", [torch.randn(2, 3, 32, 32), torch.randint(0, 11, (2, 8))])
