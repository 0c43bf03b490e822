"""What a user says of a checkpoint beside the checkpoint: task, labels, tokenizer, parity."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from tokenizers import Tokenizer

from exeunt.export.errors import ExportError
from exeunt.export.families.checkpoint import invalid, read_json

TOKENIZER_FILE = "tokenizer.json"

_LABELS = TypeAdapter(tuple[Annotated[str, Field(min_length=1)], ...])


@dataclass(frozen=True)
class SourceOptions:
    """What the checkpoint itself does not say, or should not decide.

    task: which one the bundle answers, in the family's words. labels: a file with the answers'
    names. tokenizer: a `tokenizer.json`, or a directory with one. parity: official quirks to keep,
    by name.
    """

    task: str | None = None
    labels: Path | None = None
    tokenizer: Path | None = None
    parity: tuple[str, ...] = ()


DEFAULTS = SourceOptions()


def check_options(family: str, options: SourceOptions, *, takes: Iterable[str] = ()) -> None:
    """Refuse options that a family has no use for.

    Args:
        family: its name.
        options: what was asked for.
        takes: the fields of `SourceOptions` that the family reads.

    Raises:
        ExportError: names the option.
    """
    taken = set(takes)
    for name in ("task", "labels", "tokenizer", "parity"):
        if getattr(options, name) and name not in taken:
            raise ExportError(f"the family {family!r} takes no --{name}: leave it out")


def check_parity(family: str, options: SourceOptions, known: Mapping[str, str]) -> None:
    """Refuse a parity name that the family does not know.

    Args:
        family: its name.
        options: what was asked for.
        known: what each name changes, in a few words.

    Raises:
        ExportError: names the known ones with what they change.
    """
    if unknown := [name for name in options.parity if name not in known]:
        listed = "; ".join(f"{name}: {what}" for name, what in sorted(known.items())) or "none"
        raise ExportError(
            f"the family {family!r} knows no --parity {unknown[0]!r}; it knows {listed}"
        )


def chosen_task(family: str, options: SourceOptions, fitting: Collection[str]) -> str:
    """Return the task that was asked for, or the only one that the checkpoint's head fits.

    Args:
        family: its name.
        options: what was asked for.
        fitting: the tasks that the checkpoint has a head for, the likeliest first.

    Raises:
        ExportError: the checkpoint has no head for the task.
    """
    if options.task is None:
        return next(iter(fitting))
    if options.task not in fitting:
        raise ExportError(
            f"--task {options.task!r} needs a head that this checkpoint does not have: its head"
            f" serves {', '.join(fitting)} of the family {family!r}"
        )
    return options.task


def read_labels(options: SourceOptions, classes: int) -> tuple[str, ...]:
    """Return the labels in the file that was named: a JSON list, or one label a line.

    Args:
        options: what was asked for.
        classes: logits of the head.

    Returns:
        As many labels as classes; none where no file was named.

    Raises:
        ExportError: the file cannot be read, or does not fit the head.
    """
    file = options.labels
    if file is None:
        return ()
    try:
        labels = _LABELS.validate_python(_listed(file))
    except ValidationError as error:
        raise invalid(file, error) from None
    if len(labels) != classes:
        raise ExportError(
            f"{file} has {len(labels)} labels, the checkpoint's head answers {classes}: give one"
            " for each, in the order of training"
        )
    return labels


def _listed(file: Path) -> object:
    """Return a file's labels: a list, a mapping of or to places, or lines."""
    if file.suffix != ".json":
        try:
            return file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ExportError(f"cannot read {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ExportError(f"{file} is no text: expected one label a line") from None
    content = read_json(file)
    if not isinstance(content, dict):
        return content
    # Official files map answers to places (`ans2label.json`), or places to answers.
    for places, labels in ((content.values(), content), (content, content.values())):
        order = {str(place): label for place, label in zip(places, labels, strict=True)}
        if set(order) == {str(place) for place in range(len(content))}:
            return [order[str(place)] for place in range(len(content))]
    raise ExportError(
        f"{file} has the keys {list(content)[:3]} ...: expected labels with the places from 0 to"
        f" {len(content) - 1}, or these places with labels, each once"
    )


def tokenizer_file(options: SourceOptions, rows: int, *, spare: int = 0) -> Path | None:
    """Return the tokenizer that was named, once it fits the word embeddings.

    Args:
        options: what was asked for.
        rows: of the word embeddings.
        spare: rows at most that no word has.

    Returns:
        The file; None where none was named: the bundle takes raw tensors only.

    Raises:
        ExportError: it cannot be read, or its vocabulary is not the checkpoint's.
    """
    named = options.tokenizer
    if named is None:
        return None
    file = named / TOKENIZER_FILE if named.is_dir() else named
    if not file.is_file():
        raise ExportError(f"{file} is missing: --tokenizer takes a {TOKENIZER_FILE}")
    try:
        words = Tokenizer.from_file(str(file)).get_vocab_size(with_added_tokens=True)
    except Exception as error:  # the library raises bare Exception
        raise ExportError(f"{file} is no tokenizer of the `tokenizers` library: {error}") from None
    if not rows - spare <= words <= rows:
        raise ExportError(
            f"{file} has {words} words, the checkpoint embeds {rows}: take the tokenizer that it"
            " was trained with"
        )
    return file
