"""From a body's bytes to samples: JSON and forms, one sample or a list."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from exeunt.server.errors import InvalidRequest, MalformedBody, UnsupportedMediaType
from exeunt.server.multipart import Part, parse_multipart
from exeunt.server.samples import Sample, named, sample_from_fields

JSON = "application/json"
FORM = "multipart/form-data"
_LISTS = ("images", "choices", "allowed")  # fields of which a form repeats one for one sample
_WHOLE = ("beams", "max_tokens", "min_tokens", "no_repeat_ngram")
_DIGITS = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Parsed:
    """The samples of a request. is_list: whether the answer is a list too."""

    samples: list[Sample]
    is_list: bool


def check_media_type(content_type: str, content_encoding: str) -> str:
    """Return `JSON` or `FORM`.

    Raises:
        UnsupportedMediaType: the body is something else, compressed, or not in UTF-8.
    """
    kind, *options = (part.strip().lower() for part in content_type.split(";"))
    if content_encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("the body is compressed: send it without Content-Encoding")
    if kind == FORM:
        return FORM
    if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType(
            f"expected a Content-Type of {JSON} or {FORM}, found {kind[:80] or 'none'!r}"
        )
    charset = next((option[8:] for option in options if option.startswith("charset=")), "utf-8")
    if charset.strip('"') not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("the body is not in UTF-8: encode it so")
    return JSON


def parse_body(body: bytes, kind: str, content_type: str, max_samples: int) -> Parsed:
    """Return the samples of a body, checked field by field; files stay encoded.

    Raises:
        InputError: the body or a field of it is wrong; the message says which and how to mend it.
    """
    if not body:
        raise MalformedBody("the body is empty: send an image and a text, as JSON or as a form")
    fields = (
        _json_samples(body, max_samples)
        if kind == JSON
        else _form_samples(body, content_type, max_samples)
    )
    many = isinstance(fields, list)
    entries = fields if isinstance(fields, list) else [fields]
    samples = []
    for place, (values, files) in enumerate(entries):
        with named(place, len(entries)):
            samples.append(sample_from_fields(values, files))
    if many and any(sample.stream for sample in samples):
        raise InvalidRequest("`stream` takes one sample, not a list: send it by itself")
    return Parsed(samples, many)


_Entry = tuple[object, Mapping[str, object]]  # a sample's fields, and the contents of its files


def _check_count(samples: int, max_samples: int) -> None:
    """Refuse too many samples before anything is made of them."""
    if samples == 0:
        raise InvalidRequest("the list of samples is empty: send at least one")
    if samples > max_samples:
        raise InvalidRequest(
            f"{samples} samples in one request, at most {max_samples} are taken: send fewer"
        )


def _json_samples(body: bytes, max_samples: int) -> "_Entry | list[_Entry]":
    content = _decode_json(body)
    if isinstance(content, dict) and "samples" in content:
        if others := sorted(set(content) - {"samples"}):
            raise InvalidRequest(
                f"unknown field {others[0][:80]!r} beside `samples`: put it into each sample"
            )
        content = content["samples"]
        if not isinstance(content, list):
            raise InvalidRequest("`samples` must be a list")
    if isinstance(content, list):
        _check_count(len(content), max_samples)
        return [(entry, {}) for entry in content]
    return content, {}


def _decode_json(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise MalformedBody("the body is not UTF-8: encode it so") from None
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"the body is not valid JSON ({error.msg} at character {error.pos}): mend it there"
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits; nested too deep
        raise MalformedBody("the body is no JSON that can be read: simplify it") from None


def _no_constant(name: str) -> NoReturn:
    raise MalformedBody(f"the body holds {name}, which is not JSON: send a finite number")


def _form_samples(body: bytes, content_type: str, max_samples: int) -> "_Entry | list[_Entry]":
    """Read a form; a field that is repeated n times makes n samples (one of `_LISTS` makes one)."""
    fields: dict[str, list[Part]] = {}
    for part in parse_multipart(body, content_type):
        fields.setdefault(part.name, []).append(part)
    counts = {name: len(parts) for name, parts in fields.items() if name not in _LISTS}
    others = {count for name, count in counts.items() if name != "regions"}
    several = others == {1} and counts.get("regions", 1) > 1  # of one sample
    if several:
        del counts["regions"]
    count = max(counts.values(), default=1)
    if uneven := sorted(name for name, found in counts.items() if found != count):
        raise InvalidRequest(
            f"field {uneven[0][:80]!r} is there {counts[uneven[0]]} times, another {count} times:"
            " repeat every field once for each sample"
        )
    if count > 1 and (whole := next((name for name in _LISTS if name in fields), None)):
        raise InvalidRequest(f"a form with `{whole}` is one sample: send a JSON list for several")
    _check_count(count, max_samples)
    entries = [_form_sample(fields, place, several) for place in range(count)]
    return entries if count > 1 else entries[0]


def _form_sample(fields: dict[str, list[Part]], place: int, several: bool) -> _Entry:
    """Return the sample at a place; with `several`, all regions are the only sample's."""
    values: dict[str, object] = {}
    files: dict[str, object] = {}
    for name, parts in fields.items():
        if name == "images" and all(part.is_file for part in parts):
            files["images"] = [bytes(part.content) for part in parts]
        elif name == "regions" and several:
            files["regions"] = [bytes(part.content) for part in parts]
        elif name in ("image", "regions") and parts[place].is_file:
            files[name] = bytes(parts[place].content)
        elif name in _LISTS:
            values[name] = [part.text() for part in parts]
        else:  # a file too: `-F text=@question.txt`
            values[name] = _value(name, parts[place].text())
    return values, files


def _value(name: str, text: str) -> object:
    """Return what a form's text means; forms know neither numbers nor booleans."""
    if name in ("threshold", "length_penalty"):
        try:
            return float(text)
        except ValueError:
            raise InvalidRequest(f"field {name!r} is not a number: send one") from None
    if name in _WHOLE:
        if not _DIGITS.fullmatch(text.strip()):
            raise InvalidRequest(f"field {name!r} is not a whole number: send one")
        return int(text)
    if name == "stream":
        if text.strip() not in ("true", "false"):
            raise InvalidRequest("field 'stream' is neither `true` nor `false`: send one of them")
        return text.strip() == "true"
    return text
