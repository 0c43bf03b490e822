"""The examples of a checkpoint: real inputs, over which export measures parity."""

import json
from pathlib import Path

from exeunt.train.demo.data import Sample, load_split

NUM_QUESTIONS = 8
NUM_STATEMENTS = 8


def write_examples(directory: Path) -> None:
    """Write calibration samples as `N.png` and `examples.jsonl` (image, text, label).

    Args:
        directory: `examples` in a checkpoint directory; made where it is missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for place, sample in enumerate(_chosen()):
        file = f"{place:02d}.png"
        sample.image.save(directory / file, optimize=True)
        lines.append(json.dumps({"image": file, "text": sample.text, "label": sample.label}))
    (directory / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _chosen() -> list[Sample]:
    samples = load_split("calibration", num_statements=NUM_STATEMENTS)
    questions = samples[: len(samples) - NUM_STATEMENTS]
    step = len(questions) // NUM_QUESTIONS
    spread = [questions[place * step] for place in range(NUM_QUESTIONS)]
    return [*spread, *samples[len(questions) :]]


if __name__ == "__main__":
    import sys

    write_examples(Path(sys.argv[1]))
