"""What all of Hugging Face's checkpoints have in common: `config.json`, labels, a tokenizer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import invalid, read_json
from exeunt.export.families.options import (
    TOKENIZER_FILE,
    SourceOptions,
    read_labels,
    tokenizer_file,
)
from exeunt.export.families.state_dict import MisfitError, fit
from exeunt.export.families.weights import Weights, read_state_dict

CONFIG_FILE = "config.json"
SPARE_WORDS = 64  # embeddings are often padded to a round number

Config = TypeVar("Config", bound="HfConfig")
Model = TypeVar("Model", bound=nn.Module)


class HfConfig(BaseModel):
    """The keys of `config.json` that every model reads; those that inference does not are ignored.

    architectures: the class that was saved, which says what its head is. id2label: by place.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: str
    architectures: tuple[str, ...] = ()
    id2label: dict[int, str] = {}


def peek(source: Path) -> Mapping[str, object]:
    """Return what `config.json` holds, or nothing where it cannot be read; never raises."""
    try:
        content = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def read_config(source: Path, kind: type[Config]) -> Config:
    """Return `config.json` as the record `kind`.

    Raises:
        ExportError: it is missing, damaged, or a size in it is missing or cannot be.
    """
    file = source / CONFIG_FILE
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        raise invalid(file, error) from None


def find_task(source: Path, config: HfConfig, tasks: Mapping[str, str]) -> str:
    """Return the task of the class that was saved.

    Args:
        source: the checkpoint.
        config: of it.
        tasks: by class name, those that can be exported.

    Raises:
        MisfitError: its head is another one.
    """
    for name in config.architectures:
        if name in tasks:
            return tasks[name]
    found = ", ".join(config.architectures) or "no class at all"
    raise MisfitError(
        f"{source / CONFIG_FILE} names {found} under `architectures`: expected"
        f" {' or '.join(tasks)}, whose heads answer",
        _keys(source),
    )


def _keys(source: Path) -> tuple[str, ...]:
    try:
        return tuple(read_state_dict(source).tensors)
    except ExportError:  # no weights that can be read: nothing to guess another family from
        return ()


def find_labels(
    source: Path, config: HfConfig, options: SourceOptions, classes: int
) -> tuple[str, ...]:
    """Return the answers' names: of the file that was named, or else of `config.json`.

    Returns:
        As many as `classes`; none where nobody has named them.

    Raises:
        ExportError: there are more or fewer names than classes.
    """
    if options.labels is not None:
        return read_labels(options, classes)
    labels = tuple(label for _, label in sorted(config.id2label.items()))
    if labels and len(labels) != classes:
        raise ExportError(
            f"{source / CONFIG_FILE} names {len(labels)} labels under `id2label`, the head answers"
            f" {classes}: both must be of one checkpoint"
        )
    # LABEL_0, LABEL_1 ... is what is written where nobody has named them.
    named = any(label != f"LABEL_{place}" for place, label in enumerate(labels))
    return labels if named else ()


def find_tokenizer(source: Path, options: SourceOptions, words: int) -> dict[str, Path]:
    """Return the bundle's tokenizer: the one that was named, or else the checkpoint's own.

    Args:
        source: the checkpoint.
        options: what was asked for.
        words: rows of the word embeddings.

    Raises:
        ExportError: it is damaged, or its vocabulary is another one.
    """
    if options.tokenizer is None and (source / TOKENIZER_FILE).is_file():
        options = replace(options, tokenizer=source)
    file = tokenizer_file(options, words, spare=SPARE_WORDS)
    return {} if file is None else {TOKENIZER_FILE: file}


def set_eps(module: nn.Module, eps: float) -> None:
    """Give every LayerNorm in `module` the epsilon of the checkpoint's config."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = eps


def load(source: Path, make: Callable[[Weights], Model], *, unused: tuple[str, ...] = ()) -> Model:
    """Return the checkpoint's model in eval mode.

    Args:
        source: the checkpoint.
        make: makes the model, with the official names of its parameters; what its config does not
            say of it, it reads from the weights.
        unused: prefixes of keys that official files have and inference does not read.

    Raises:
        ExportError: the config describes no model; the weights cannot be read or do not fit it.
    """
    weights = read_state_dict(source)
    try:
        model = make(weights)
    except ValueError as error:
        raise ExportError(f"{source / CONFIG_FILE} describes no model: {error}") from None
    fit(model, weights, unused=unused)
    return model.eval()
