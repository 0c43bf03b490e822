"""Hugging Face's BLIP for retrieval: one export a task."""

from collections.abc import Mapping
from pathlib import Path

from exeunt.export.families.options import SourceOptions
from tests.parity.adapters.cosine import cosine_exits
from tests.parity.adapters.images import image_states, tensors, text_states
from tests.support.goldens import EXPECTED, INPUTS, Golden, Logits, read_arrays


def read(folder: Path) -> Mapping[str, Golden]:
    inputs, expected = read_arrays(folder, INPUTS), read_arrays(folder, EXPECTED)
    samples = len(expected["itm_logits"])
    cosine = {"cosine": cosine_exits(tensors(inputs, range(samples)))}
    matching = Golden(
        folder,
        tensors=lambda rows: tensors(inputs, rows),
        samples=samples,
        states=[image_states(expected), text_states("fusion", inputs, expected)],
        logits=[Logits("fusion", final=expected["itm_logits"])],
        checks=cosine,
        options=SourceOptions(task="itm"),
    )
    contrast = Golden(
        folder,
        tensors=lambda rows: tensors(inputs, rows),
        samples=samples,
        states=[image_states(expected)],
        logits=[Logits("match", final=expected["itc_score"])],
        checks=cosine,
        options=SourceOptions(task="itc"),
    )
    return {"": matching, "itc": contrast}
