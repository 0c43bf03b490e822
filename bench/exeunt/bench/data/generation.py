"""Data of bundles that generate: answers to choose from, and texts with references."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exeunt.bench.data.load import EXTRA
from exeunt.engine.errors import ConfigError, ImageError
from exeunt.engine.inputs import InputLimits, decode_image
from exeunt.engine.validation import first_problem

GENERATION_SPLITS = {"scenes": "test", "scenes-calibration": "calibration"}
ENTAILMENT, CAPTION = "entailment", "caption"


@dataclass(frozen=True)
class GenerationSample:
    """One input of a task.

    text: None where the task asks a question of its own. label: the right one of the task's labels;
    None where references are what counts. references: texts that are right, of a free task.
    """

    image: Image.Image
    task: str
    text: str | None = None
    label: str | None = None
    references: tuple[str, ...] = ()


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    task: str
    text: str | None = None
    label: str | None = None
    references: tuple[str, ...] = Field(default=(), max_length=100)


def load_generation_data(name_or_path: str) -> Sequence[GenerationSample]:
    """Return samples of the tasks of a bundle that generates.

    Args:
        name_or_path: `scenes` (2,000 statements and 1,000 captioned scenes of the test split),
            `scenes-calibration` (as many held back for choosing thresholds), or a JSONL file with a
            line {"image": PATH, "task": ..., "text": ..., "label": ... or "references": [...]} for
            each sample.

    Raises:
        ConfigError: there is no such data, a package is missing, or a line is not valid.
    """
    if name_or_path in GENERATION_SPLITS:
        return _scenes(GENERATION_SPLITS[name_or_path])
    path = Path(name_or_path)
    if not path.is_file():
        raise ConfigError(
            f"no data {name_or_path!r} of a bundle that generates: expected one of"
            f" {sorted(GENERATION_SPLITS)}, or a JSONL file"
        )
    return _read_jsonl(path)


def _scenes(split: str) -> list[GenerationSample]:
    try:
        from exeunt.train.scenes.data import load_captions, load_entailment
    except ImportError as error:
        raise ConfigError(f"the scenes' data needs the package {error.name}: {EXTRA}") from None
    statements = [
        GenerationSample(one.image, ENTAILMENT, one.text, one.answer)
        for one in load_entailment(split)
    ]
    captions = [
        GenerationSample(one.image, CAPTION, references=one.references)
        for one in load_captions(split)
    ]
    return [*statements, *captions]


def _read_jsonl(path: Path) -> list[GenerationSample]:
    samples, limits = [], InputLimits()
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
        if (fields.label is None) == (not fields.references):
            raise ConfigError(f"{path}, line {number}: name either `label` or `references`")
        samples.append(
            GenerationSample(image, fields.task, fields.text, fields.label, fields.references)
        )
    if not samples:
        raise ConfigError(f"{path} holds no samples")
    return samples
