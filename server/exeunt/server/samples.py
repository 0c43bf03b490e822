"""What a request may say: the models of its body, and samples ready for the engine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exeunt.engine.decoding.options import MAX_ALLOWED, MAX_BEAMS, MAX_NGRAM, OPTIONS
from exeunt.engine.errors import ImageError, InputError
from exeunt.engine.exit_policy.format import Criteria
from exeunt.engine.validation import dotted
from exeunt.server.base64_text import decode_base64
from exeunt.server.errors import InvalidRequest
from exeunt.server.regions import KINDS, RegionsField, regions_of

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
# One red pixel, so that the documented examples work.
_RED_DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
)
_URL_SCHEMES = ("http://", "https://", "ftp://", "file://", "s3://", "gs://")


class SampleBody(BaseModel):
    """One sample. Which of the inputs a model takes, `GET /info` says."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"image": _RED_DOT, "text": "what shape is in the image?"},
                {"image": f"data:image/png;base64,{_RED_DOT}", "text": "there is a cat"},
            ]
        },
    )

    image: str | None = Field(
        default=None, description="An image file in base64, or as a `data:` URL. Never fetched."
    )
    images: list[str] | None = Field(
        default=None, max_length=16, description="Several, for models that take more than one."
    )
    text: str | None = Field(default=None, description="The question or statement.")
    choices: list[str] | None = Field(default=None, max_length=256)
    regions: RegionsField | None = Field(
        default=None,
        description=(
            "What a detector saw, in place of the image: an .npz file in base64, or arrays; a list"
            " for models that take several images. See docs/regions.md."
        ),
    )
    task: str | None = Field(default=None, description="Which one, where a model has several.")
    criterion: Criteria | None = Field(
        default=None, description="In place of the exit policy's, where the server allows it."
    )
    threshold: Number | list[Number] | None = Field(
        default=None, description="A number, or one a layer, where the server allows it."
    )
    beams: Annotated[Whole, Field(ge=1, le=MAX_BEAMS)] | None = Field(
        default=None, description="Hypotheses side by side; 1 takes the best token each time."
    )
    max_tokens: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="At most, the end token included; `GET /info` has the limit."
    )
    min_tokens: Annotated[Whole, Field(ge=0)] | None = Field(
        default=None, description="At least, before the end token."
    )
    no_repeat_ngram: Annotated[Whole, Field(ge=0, le=MAX_NGRAM)] | None = Field(
        default=None, description="No so many tokens in a row appear twice; 0 allows all."
    )
    length_penalty: Annotated[Number, Field(ge=0, le=10)] | None = Field(
        default=None, description="Of beams: a text scores sum(log p) / length^penalty."
    )
    allowed: Annotated[list[str], Field(max_length=MAX_ALLOWED)] | None = Field(
        default=None, description="The answers to choose from, of a task that generates text."
    )
    stream: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="Tell tokens as server-sent events; of a single sample only."
    )


class SamplesBody(BaseModel):
    """Several samples; the answer is a list in the same order."""

    model_config = ConfigDict(extra="forbid")

    samples: list[SampleBody]


@dataclass(frozen=True)
class Sample:
    """One sample, its images as the bytes of files, its regions too or as arrays.

    inputs: what the engine takes. criterion, threshold: overrides. stream: whether its tokens are
    to be told one by one.
    """

    inputs: dict[str, object]
    criterion: str | None = None
    threshold: float | tuple[float, ...] | None = None
    task: str | None = field(default=None)
    stream: bool = False


def sample_from_fields(fields: object, files: Mapping[str, object]) -> Sample:
    """Return the sample that decoded JSON, or a form's text fields, describe.

    Args:
        fields: of a sample.
        files: `image`, `images`, `regions`, as a form's files: their contents.

    Raises:
        InvalidRequest: a field is unknown or of the wrong kind.
        MalformedBody: the base64 of an image or of regions is broken.
        ImageError: a URL stands where an image should be.
        RegionsError: an array's data do not fit its shape.
    """
    if not isinstance(fields, dict):
        raise InvalidRequest(f"a sample is an object, found {_kind(fields)}")
    try:
        body = SampleBody.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(_first_problem(error)) from None
    inputs: dict[str, object] = {
        **files,
        "text": body.text,
        "choices": body.choices,
        "task": body.task,
        **{name: getattr(body, name) for name in OPTIONS},
    }
    if body.image is not None:
        inputs["image"] = _image(body.image)
    if body.images is not None:
        inputs["images"] = [_image(one) for one in body.images]
    if body.regions is not None:
        inputs["regions"] = regions_of(body.regions)
    given = {name: value for name, value in inputs.items() if value is not None}
    threshold = tuple(body.threshold) if isinstance(body.threshold, list) else body.threshold
    return Sample(given, body.criterion, threshold, body.task, body.stream)


def _image(text: str) -> bytes:
    if text[:8].lower().startswith(_URL_SCHEMES):
        raise ImageError(
            "the image is a URL, and URLs are never fetched: send the file itself, in base64 or"
            " as multipart/form-data"
        )
    return decode_base64(text, "the image")


@contextmanager
def named(place: int, count: int) -> Iterator[None]:
    """Say which sample of a list an error is about."""
    try:
        yield
    except InputError as error:
        if count > 1:
            raise type(error)(f"samples[{place}]: {error}") from None
        raise


def _first_problem(error: ValidationError) -> str:
    """Name the field and what was expected; never what was found, which is content."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    key = dotted([part for part in first["loc"] if part not in KINDS])
    if first["type"] == "extra_forbidden":
        known = ", ".join(SampleBody.model_fields)
        return f"unknown field {key[:80]!r}: expected some of {known}"
    if first["type"] == "finite_number":
        return f"field {key!r} is not a finite number: send one"
    return f"field {key!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
