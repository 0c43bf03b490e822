"""A UNITER checkpoint of random weights, and its forward in plain functions on one row."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Array = NDArray[Any]
WIDTH, HEADS, LAYERS, FFN, FEATURES, BOXES = 24, 3, 3, 40, 20, 7
WORDS, POSITIONS = 60, 18
EPS = 1e-12


def head_shapes(task: str) -> dict[str, tuple[int, ...]]:
    def classifier(name: str, labels: int) -> dict[str, tuple[int, ...]]:
        two = 2 * WIDTH
        shapes = {f"{name}.0.weight": (two, WIDTH), f"{name}.0.bias": (two,)}
        shapes |= {f"{name}.2.weight": (two,), f"{name}.2.bias": (two,)}
        return shapes | {f"{name}.3.weight": (labels, two), f"{name}.3.bias": (labels,)}

    def linear(name: str, labels: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (labels, WIDTH), f"{name}.bias": (labels,)}

    return {
        "ve": classifier("vqa_output", 3),
        "vqa": classifier("vqa_output", 11),
        "vcr": classifier("vcr_output", 2),
        "itm": linear("itm_output", 2) | linear("rank_output", 1),
    }[task]


def layer_shapes(layer: int) -> dict[str, tuple[int, ...]]:
    stem = f"uniter.encoder.layer.{layer}"
    shapes: dict[str, tuple[int, ...]] = {}
    maps = {f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
    maps["attention.output.dense"] = (WIDTH, WIDTH)
    maps["intermediate.dense"] = (FFN, WIDTH)
    maps["output.dense"] = (WIDTH, FFN)
    for name, shape in maps.items():
        shapes |= {f"{stem}.{name}.weight": shape, f"{stem}.{name}.bias": shape[:1]}
    for name in ("attention.output", "output"):
        shapes |= {f"{stem}.{name}.LayerNorm.{part}": (WIDTH,) for part in ("weight", "bias")}
    return shapes


def shapes(task: str) -> dict[str, tuple[int, ...]]:
    text, image = "uniter.embeddings", "uniter.img_embeddings"
    types = 4 if task == "vcr" else 2
    found: dict[str, tuple[int, ...]] = {
        f"{text}.word_embeddings.weight": (WORDS, WIDTH),
        f"{text}.position_embeddings.weight": (POSITIONS, WIDTH),
        f"{text}.token_type_embeddings.weight": (types, WIDTH),
        f"{image}.img_linear.weight": (WIDTH, FEATURES),
        f"{image}.img_linear.bias": (WIDTH,),
        f"{image}.pos_linear.weight": (WIDTH, BOXES),
        f"{image}.pos_linear.bias": (WIDTH,),
        f"{image}.mask_embedding.weight": (2, FEATURES),
        "uniter.pooler.dense.weight": (WIDTH, WIDTH),
        "uniter.pooler.dense.bias": (WIDTH,),
    }
    norms = [f"{text}.LayerNorm"]
    norms += [f"{image}.{name}" for name in ("img_layer_norm", "pos_layer_norm", "LayerNorm")]
    found |= {f"{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}
    for layer in range(LAYERS):
        found |= layer_shapes(layer)
    return found | head_shapes(task)


def write_checkpoint(
    directory: Path, task: str, *, old_names: bool = False, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Write a checkpoint as official code does; return its weights under today's names."""
    generator = torch.Generator().manual_seed(7)
    weights = {}
    for name, shape in shapes(task).items():
        drawn = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            drawn *= 0.7 if "embeddings.weight" in name else 1.5 * shape[1] ** -0.5
        else:
            drawn = drawn * 0.1 + (1.0 if "orm.weight" in name or ".2.weight" in name else 0.0)
        weights[name] = drawn.to(dtype)
    written = {_old(name) if old_names else name: tensor for name, tensor in weights.items()}
    (directory / "ckpt").mkdir(parents=True)
    (directory / "log").mkdir()
    torch.save(written, directory / "ckpt" / "model_step_3.pt")
    config = {
        "hidden_act": "gelu",
        "hidden_size": WIDTH,
        "intermediate_size": FFN,
        "max_position_embeddings": POSITIONS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "type_vocab_size": 2,
        "vocab_size": WORDS,
    }
    (directory / "log" / "model.json").write_text(json.dumps(config))
    (directory / "log" / "hps.json").write_text(json.dumps({"max_txt_len": 14, "max_bb": 12}))
    return {name: tensor.float() for name, tensor in weights.items()}


def _old(name: str) -> str:
    if "orm." not in name:
        return name
    return name.replace("weight", "gamma").replace("bias", "beta")


class Row:
    """One row's forward: no padding, no batch."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    def linear(self, name: str, value: Tensor) -> Tensor:
        return F.linear(value, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, value: Tensor) -> Tensor:
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(value, scale.shape, scale, shift, EPS)

    def embed(self, ids: Tensor, types: Tensor, features: Tensor, boxes: Tensor) -> Tensor:
        text, image = "uniter.embeddings", "uniter.img_embeddings"
        kinds = self.weights[f"{text}.token_type_embeddings.weight"]
        words = self.weights[f"{text}.word_embeddings.weight"][ids] + kinds[types]
        words = words + self.weights[f"{text}.position_embeddings.weight"][: len(ids)]
        seen = self.norm(f"{image}.img_layer_norm", self.linear(f"{image}.img_linear", features))
        placed = self.norm(f"{image}.pos_layer_norm", self.linear(f"{image}.pos_linear", boxes))
        regions = self.norm(f"{image}.LayerNorm", seen + placed + kinds[1])
        return torch.cat([self.norm(f"{text}.LayerNorm", words), regions])

    def layer(self, place: int, hidden: Tensor) -> Tensor:
        stem = f"uniter.encoder.layer.{place}"
        parts = [
            self.linear(f"{stem}.attention.self.{name}", hidden).view(len(hidden), HEADS, -1)
            for name in ("query", "key", "value")
        ]
        query, key, value = (part.transpose(0, 1) for part in parts)
        mixed = torch.softmax(query @ key.mT / (WIDTH // HEADS) ** 0.5, dim=-1) @ value
        mixed = mixed.transpose(0, 1).reshape(len(hidden), WIDTH)
        update = self.linear(f"{stem}.attention.output.dense", mixed)
        hidden = self.norm(f"{stem}.attention.output.LayerNorm", hidden + update)
        update = F.gelu(self.linear(f"{stem}.intermediate.dense", hidden))
        update = self.linear(f"{stem}.output.dense", update)
        return self.norm(f"{stem}.output.LayerNorm", hidden + update)

    def states(self, ids: Tensor, types: Tensor, features: Tensor, boxes: Tensor) -> list[Tensor]:
        found = [self.embed(ids, types, features, boxes)]
        for place in range(LAYERS):
            found.append(self.layer(place, found[-1]))
        return found

    def pooled(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.linear("uniter.pooler.dense", hidden[0]))

    def classify(self, name: str, hidden: Tensor) -> Tensor:
        activation = F.relu if name == "vcr_output" else F.gelu
        wide = activation(self.linear(f"{name}.0", self.pooled(hidden)))
        return self.linear(f"{name}.3", self.norm(f"{name}.2", wide))


def draw_rows(count: int, *, types: int = 1, seed: int = 3) -> list[dict[str, Array]]:
    """Return rows of raw tensors that differ in length, without padding."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Array]] = []
    for _ in range(count):
        words, regions = int(random.integers(2, 14)), int(random.integers(1, 12))
        rows.append(
            {
                "input_ids": random.integers(1, WORDS, words),
                "attention_mask": np.ones(words, dtype=np.int64),
                "token_type_ids": random.integers(0, types, words),
                "region_features": random.random((regions, FEATURES), dtype=np.float32),
                "region_boxes": random.random((regions, BOXES), dtype=np.float32),
                "region_mask": np.ones(regions, dtype=np.int64),
            }
        )
    return rows


def padded(rows: Sequence[Mapping[str, Array]], names: Sequence[str]) -> dict[str, Array]:
    """Return the rows side by side, padded with zeros to the longest of them."""
    tensors = {}
    for name in names:
        arrays = [row[name] for row in rows]
        size = max(len(array) for array in arrays)
        together = np.zeros((len(arrays), size, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
        for place, array in enumerate(arrays):
            together[place, : len(array)] = array
        tensors[name] = together
    return tensors
