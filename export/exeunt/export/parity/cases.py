"""The inputs that parity is measured over: random tensors, and the checkpoint's examples."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.errors import InputError
from exeunt.engine.inputs import InputLimits, SamplePreparer
from exeunt.export.errors import ExportError
from exeunt.export.plan import BundlePlan

BATCH_SIZES = (1, 2, 5, 8)
SEED = 20_24
EXAMPLES_FILE = "examples.jsonl"
MAX_EXAMPLES = 1024


@dataclass(frozen=True)
class Case:
    """One batch of raw tensors by name. length: of its sequence axis."""

    tensors: dict[str, Array]
    batch: int
    length: int


class Example(Frozen):
    """One line of `examples.jsonl`. image: a file beside it. label: the right answer, unused."""

    image: str
    text: str
    label: str | None = None


def random_cases(plan: BundlePlan) -> list[Case]:
    """Return batches of random tensors of several sizes; always the same ones."""
    generator = torch.Generator().manual_seed(SEED)
    return [
        Case(
            {name: tensor.numpy() for name, tensor in plan.draw(generator, batch, length).items()},
            batch,
            length,
        )
        for length in plan.lengths
        for batch in BATCH_SIZES
    ]


def real_cases(directory: Path, bundle: Bundle) -> list[Case]:
    """Return the examples in `directory`, prepared by the engine, in batches of one shape.

    Returns:
        Batches of at most eight; none when the directory has no `examples.jsonl`.

    Raises:
        ExportError: an example cannot be read or used; names it.
    """
    file = directory / EXAMPLES_FILE
    if not file.is_file():
        return []
    prepare = SamplePreparer(bundle, InputLimits())
    groups: dict[int, list[dict[str, Array]]] = {}
    for where, example in _read(file):
        image = directory / Path(example.image).name
        try:
            tensors = prepare({"image": image.read_bytes(), "text": example.text})
        except (InputError, OSError) as error:
            raise ExportError(f"{where} cannot be used: {error}") from None
        groups.setdefault(_length(tensors, bundle), []).append(tensors)
    return [
        _stack(group[start : start + max(BATCH_SIZES)], length)
        for length, group in sorted(groups.items())
        for start in range(0, len(group), max(BATCH_SIZES))
    ]


def _read(file: Path) -> Iterator[tuple[str, Example]]:
    lines = file.read_text(encoding="utf-8").splitlines()
    if len(lines) > MAX_EXAMPLES:
        raise ExportError(f"{file} has {len(lines)} lines: {MAX_EXAMPLES} are enough")
    for place, line in enumerate(lines, 1):
        where = f"{file}, line {place},"
        try:
            yield where, Example.model_validate(json.loads(line))
        except (ValueError, ValidationError, RecursionError):
            raise ExportError(
                f'{where} is not valid: expected {{"image": "FILE.png", "text": "..."}}'
            ) from None


def _length(tensors: dict[str, Array], bundle: Bundle) -> int:
    text = bundle.manifest.inputs.text
    return int(tensors[text.ids].shape[-1]) if text else 0


def _stack(group: list[dict[str, Array]], length: int) -> Case:
    tensors = {name: np.stack([sample[name] for sample in group]) for name in group[0]}
    return Case(tensors, len(group), length)
