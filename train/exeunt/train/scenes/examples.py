"""The examples of a checkpoint: real inputs, over which export measures parity."""

import json
from pathlib import Path

from exeunt.train.scenes.data import load_captions, load_entailment

NUM_STATEMENTS = 8
NUM_CAPTIONED = 8


def write_examples(directory: Path) -> None:
    """Write calibration samples as `N.png` and `examples.jsonl`.

    A line holds image and text, and as label a statement's answer or one of an image's captions.

    Args:
        directory: `examples` in a checkpoint directory; made where it is missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    statements = load_entailment("calibration", NUM_STATEMENTS)
    captioned = load_captions("calibration", NUM_CAPTIONED)
    samples = [
        *((sample.image, sample.text, sample.answer) for sample in statements),
        *((sample.image, sample.text, sample.references[0]) for sample in captioned),
    ]
    lines = []
    for place, (image, text, label) in enumerate(samples):
        file = f"{place:02d}.png"
        image.save(directory / file, optimize=True)
        lines.append(json.dumps({"image": file, "text": text, "label": label}))
    (directory / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
