"""Samples as the bodies of `POST /predict`."""

import io
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from exeunt.engine.errors import ConfigError


@dataclass(frozen=True)
class Body:
    """A request's body, made once and sent many times."""

    content: bytes
    content_type: str


def form_body(sample: Mapping[str, object], fields: Mapping[str, str] | None = None) -> Body:
    """Return a sample as multipart/form-data, its images as files.

    Args:
        sample: `image` or `images` (PIL images or the bytes of files) and `text`.
        fields: further text fields, such as a criterion.

    Raises:
        ConfigError: the sample holds what a form cannot say.
    """
    boundary = f"exeunt-{secrets.token_hex(12)}"
    parts = []
    for name, value in {**sample, **(fields or {})}.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str):
                parts.append(_part(boundary, name, one.encode()))
            elif isinstance(one, bytes | Image.Image):
                parts.append(_part(boundary, name, _file(one), is_file=True))
            else:
                raise ConfigError(
                    f"a sample's {name!r} is a {type(one).__name__}, and a form holds texts and"
                    " images only: measure this bundle with --over engine"
                )
    end = f"--{boundary}--\r\n".encode()
    return Body(b"".join([*parts, end]), f"multipart/form-data; boundary={boundary}")


def _part(boundary: str, name: str, content: bytes, *, is_file: bool = False) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
    if is_file:
        head += f'; filename="{name}"\r\nContent-Type: application/octet-stream'
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


def _file(image: bytes | Image.Image) -> bytes:
    if isinstance(image, bytes):
        return image
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
