"""Score a demo model's exits on a split, with torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from exeunt.export.families.demo import DemoModel
from exeunt.train.demo.curves import ExitRecord, record_exits
from exeunt.train.demo.data import Sample
from exeunt.train.demo.stream import pad_ids
from exeunt.train.demo.trainer import pixel_values
from exeunt.train.demo.words import LABELS, PAD_ID, encode

_BATCH = 256


def exit_logits(model: DemoModel, samples: Sequence[Sample]) -> np.ndarray:
    """Return the logits f32[L, N, C] of every exit, in fp32 and in eval mode."""
    parts = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(samples), _BATCH):
            chunk = samples[start : start + _BATCH]
            pixels = np.stack([np.asarray(sample.image) for sample in chunk])
            ids = torch.from_numpy(pad_ids([encode(sample.text) for sample in chunk]))
            logits = model(pixel_values(pixels), ids, (ids != PAD_ID).long())
            parts.append(torch.stack(logits).numpy())
    model.train(was_training)
    return np.concatenate(parts, axis=1)


def score_exits(model: DemoModel, samples: Sequence[Sample]) -> ExitRecord:
    """Return each exit's answers to labelled samples."""
    label = np.array([LABELS.index(sample.label) for sample in samples])
    return record_exits(exit_logits(model, samples), label, [sample.kind for sample in samples])


def write_weights(model: DemoModel, path: Path) -> None:
    """Write the model's weights as safetensors."""
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path)
