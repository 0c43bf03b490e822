"""The papers' algorithm, plainly: one sample at a time, layer by layer, in torch.

Shares nothing with the engine but the checkpoint: its own preprocessing, its own entropy.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from exeunt.export.families.demo import DemoModel, load_checkpoint


@dataclass(frozen=True)
class Left:
    """Where a sample left, with what, and how near any score came to its threshold."""

    layer: int
    label: str
    margin: float


class SequentialModel:
    """A demo checkpoint with entropy thresholds, one a layer."""

    def __init__(self, checkpoint: Path, thresholds: list[float]) -> None:
        self._model: DemoModel = load_checkpoint(checkpoint).eval()
        self._labels: list[str] = json.loads((checkpoint / "labels.json").read_text())
        self._tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self._thresholds = thresholds

    def __call__(self, image: Image.Image, text: str) -> Left:
        pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32).copy())
        pixels = ((pixels / 255.0 - 0.5) / 0.5).permute(2, 0, 1).unsqueeze(0)
        ids = torch.tensor([self._tokenizer.encode(text).ids])
        hidden, mask = self._model.embed(pixels, ids, torch.ones_like(ids))
        margin = float("inf")
        logits = torch.empty(0)
        depth = len(self._model.layers)
        for number, (layer, head) in enumerate(
            zip(self._model.layers, self._model.heads, strict=True), start=1
        ):
            hidden = layer(hidden, mask)
            logits = head(hidden)[0]
            score = _entropy(logits)
            margin = min(margin, abs(score - self._thresholds[number - 1]))
            if score < self._thresholds[number - 1]:
                return Left(number, self._labels[int(logits.argmax())], margin)
        return Left(depth, self._labels[int(logits.argmax())], margin)


def _entropy(logits: Tensor) -> float:
    log_probabilities = logits.log_softmax(dim=0)
    return -float((log_probabilities.exp() * log_probabilities).sum())
