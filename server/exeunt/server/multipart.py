"""multipart/form-data: from a body's bytes to its parts."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from exeunt.server.errors import MalformedBody

MAX_PARTS = 1024


@dataclass
class Part:
    """One part. name: of the field. is_file: whether its content is bytes rather than text."""

    name: str = ""
    is_file: bool = False
    content: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        """Return the content as text.

        Raises:
            MalformedBody: it is not UTF-8.
        """
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedBody(f"form field {self.name!r} is not UTF-8: encode it so") from None


def parse_multipart(body: bytes, content_type: str) -> list[Part]:
    """Return the parts of a form.

    Args:
        body: the whole of it, within the server's cap.
        content_type: the request's header, which names the boundary.

    Raises:
        MalformedBody: the form is broken, cut short or has too many parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedBody("the multipart Content-Type names no boundary: let the client set it")
    collector = _Collector()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.part_begin,
                "on_part_data": collector.part_data,
                "on_header_field": collector.header_field,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_headers_finished": collector.headers_finished,
                "on_end": collector.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise MalformedBody("the form is broken: check its boundary and headers") from None
    if not collector.complete:
        raise MalformedBody("the form ends before its closing boundary: send the whole body")
    return collector.parts


class _Collector:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._headers: dict[bytes, bytes] = {}
        self._field = bytearray()
        self._value = bytearray()

    def part_begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise MalformedBody(f"the form has over {MAX_PARTS} parts: send fewer")
        self.parts.append(Part())
        self._headers = {}

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content += memoryview(data)[start:end]

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name")
        if disposition != b"form-data" or name is None:
            raise MalformedBody("a part of the form has no `Content-Disposition: form-data; name=`")
        part = self.parts[-1]
        part.name = name.decode("utf-8", "replace")
        kind = self._headers.get(b"content-type", b"").lower()
        part.is_file = b"filename" in options or kind.startswith(
            (b"image/", b"application/octet-stream")
        )

    def end(self) -> None:
        self.complete = True
