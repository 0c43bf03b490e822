"""Data by name (the embedded model's splits) or by path (a JSONL file of your own)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from exeunt.engine.errors import ConfigError, ImageError
from exeunt.engine.inputs import InputLimits, decode_image
from exeunt.engine.validation import first_problem

SPLITS = {"demo": "test", "demo-calibration": "calibration"}
EXTRA = "pip install 'exeunt[bench]'"


class LabelledSample(Protocol):
    """One input with its right answer. kind: what the figures are grouped by."""

    @property
    def image(self) -> Image.Image | bytes:
        """The image, decoded or as a file's bytes."""
        ...

    @property
    def text(self) -> str:
        """The question or statement."""
        ...

    @property
    def label(self) -> str:
        """The right answer."""
        ...

    @property
    def kind(self) -> str:
        """A group, with a slash between a group and its part: `question/shape`."""
        ...


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    text: str
    label: str
    kind: str = "all"


@dataclass(frozen=True)
class FileSample:
    """A line of a JSONL file, its image read."""

    image: Image.Image
    text: str
    label: str
    kind: str


def load_data(name_or_path: str) -> Sequence[LabelledSample]:
    """Return labelled samples.

    Args:
        name_or_path: `demo` (9,673 questions of easy-vqa's test split and 2,000 fixed statements),
            `demo-calibration` (the part held back for choosing thresholds), or a JSONL file with a
            line {"image": PATH, "text": ..., "label": ..., "kind": ...} for each sample.

    Raises:
        ConfigError: there is no such data, a package is missing, or a line is not valid.
    """
    if name_or_path in SPLITS:
        return _demo(SPLITS[name_or_path])
    path = Path(name_or_path)
    if not path.is_file():
        raise ConfigError(
            f"no data {name_or_path!r}: expected one of {sorted(SPLITS)}, or a JSONL file"
        )
    return _read_jsonl(path)


def _demo(split: str) -> Sequence[LabelledSample]:
    try:
        from exeunt.train.demo.data import load_split
    except ImportError as error:
        raise ConfigError(f"the demo's data needs the package {error.name}: {EXTRA}") from None
    return load_split(split)


def _read_jsonl(path: Path) -> list[FileSample]:
    samples = []
    limits = InputLimits()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = _Line.model_validate_json(line)
            image = decode_image((path.parent / fields.image).read_bytes(), limits)
        except ValidationError as error:
            key, what = first_problem(error)
            raise ConfigError(f"{path}, line {number}, {key or 'the line'}: {what}") from None
        except (OSError, ImageError) as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        samples.append(FileSample(image, fields.text, fields.label, fields.kind))
    if not samples:
        raise ConfigError(f"{path} holds no samples")
    return samples
